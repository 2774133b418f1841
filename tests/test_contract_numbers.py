"""The numbers of the contract: compiled, in half precision, and their gradients."""

import contract
import pytest
from contract import over_cases


@over_cases("compiled")
def test_compiled_values_are_eager_ones(case):
    contract.compiled(case)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@over_cases("mixed_precision")
def test_mixed_precision(case, policy):
    contract.mixed_precision(case, policy)


@over_cases("gradient")
def test_gradient_is_that_of_a_difference_quotient(case):
    contract.gradient(case)
