"""The optimizers' formulas in NumPy and float64, read from their papers: one step after the other, one array."""

import numpy as np


def run(rule, w, gradients):
    """Return the array after each step; `rule(w, g, t, memory)` returns the next one."""
    memory, path = {}, []
    w = np.asarray(w, "float64")
    for t, g in enumerate(gradients, start=1):
        w = rule(w, np.asarray(g, "float64"), t, memory)
        path.append(w)
    return path


def descent(rate):
    return lambda w, g, t, memory: w - rate * g


def momentum(rate, mu, nesterov=False):
    """The velocity of Sutskever et al. holds the rate; with a constant one it is the same."""

    def rule(w, g, t, memory):
        v = memory["v"] = mu * memory.get("v", 0) - rate * g
        return w + (mu * v - rate * g if nesterov else v)

    return rule


def adagrad(rate, first=0.0, epsilon=1e-10, l1=0.0, l2=0.0):
    def rule(w, g, t, memory):
        total = memory["G"] = memory.get("G", first) + g * g
        r = rate / (np.sqrt(total) + epsilon)
        x = w - r * g
        return np.sign(x) * np.maximum(np.abs(x) - r * l1, 0) / (1 + r * l2)

    return rule


def rmsprop(rate, rho, epsilon=1e-8, centered=False):
    def rule(w, g, t, memory):
        v = memory["v"] = rho * memory.get("v", 0) + (1 - rho) * g * g
        m = memory["m"] = rho * memory.get("m", 0) + (1 - rho) * g
        return w - rate * g / (np.sqrt(v - m * m if centered else v) + epsilon)

    return rule


def adam(rate, b1=0.9, b2=0.999, epsilon=1e-8, correct=True, hat=False, amsgrad=False):
    def rule(w, g, t, memory):
        m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        v = memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g**2
        if amsgrad:
            v = memory["a"] = np.maximum(memory.get("a", 0), v)
        if not correct:
            return w - rate * m / (np.sqrt(v) + epsilon)
        if hat:
            return w - rate * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + epsilon)
        return w - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + epsilon)

    return rule


def radam(rate, b1=0.9, b2=0.999, epsilon=1e-8, threshold=4.0):
    def rule(w, g, t, memory):
        m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        v = memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g**2
        far = 2 / (1 - b2) - 1
        here = far - 2 * t * b2**t / (1 - b2**t)
        if here <= threshold:
            return w - rate * m / (1 - b1**t)
        r = np.sqrt((here - 4) * (here - 2) * far / ((far - 4) * (far - 2) * here))
        return w - rate * r * m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + epsilon)

    return rule


def adabelief(rate, b1=0.9, b2=0.999, epsilon=1e-16):
    def rule(w, g, t, memory):
        m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        s = memory["s"] = b2 * memory.get("s", 0) + (1 - b2) * (g - m) ** 2 + epsilon
        return w - rate * m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + epsilon)

    return rule


def yogi(rate, b1=0.9, b2=0.999, epsilon=1e-3, first=1e-6, correct=True):
    def rule(w, g, t, memory):
        m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
        v = memory.get("v", first)
        v = memory["v"] = v - (1 - b2) * np.sign(v - g * g) * g * g
        factor = np.sqrt(1 - b2**t) / (1 - b1**t) if correct else 1
        return w - rate * factor * m / (np.sqrt(v) + epsilon)

    return rule


def novograd(rate, b1=0.95, b2=0.98, epsilon=1e-8, decay=0.0, averaging=False):
    def rule(w, g, t, memory):
        v = memory["v"] = (g**2).sum() if t == 1 else b2 * memory["v"] + (1 - b2) * (g**2).sum()
        m = memory["m"] = b1 * memory.get("m", 0) + (1 - b1 if averaging else 1) * (
            g / (np.sqrt(v) + epsilon) + decay * w
        )
        return w - rate * m

    return rule


def frank_wolfe(rate, limit, nuclear=False):
    def rule(w, g, t, memory):
        if nuclear:
            u, _, v = np.linalg.svd(g, full_matrices=False)
            s = -limit * np.outer(u[:, 0], v[0])
        else:
            s = -limit * g / np.linalg.norm(g)
        return (1 - rate) * w + rate * s

    return rule
