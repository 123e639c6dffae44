"""Which functions a C or C++ file holds, and which text of it could not be read as one."""
