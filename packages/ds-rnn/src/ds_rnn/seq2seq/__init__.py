"""Networks that read a sequence and write another one."""
