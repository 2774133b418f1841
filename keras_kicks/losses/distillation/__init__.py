"""What a student is compared to a teacher by."""
