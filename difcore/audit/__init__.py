"""Could a detector cheat? what two sets of images differ in besides their generator."""
