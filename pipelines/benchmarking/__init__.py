"""`deepvideo evaluate`: a policy's answers to public benchmarks, from the user's own copies."""
