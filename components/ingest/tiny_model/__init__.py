"""A tiny Qwen2.5-VL that imitates a pretrained model before RL: it knows more than its samples show."""
