"""Moving Shapes: short videos of coloured shapes with questions about them, generated from a seed."""
