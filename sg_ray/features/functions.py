"""Function definitions of a sample, those inside others, and calls that do not come back."""

from bisect import bisect
from collections.abc import Iterator

from sg_ray.features.syntax import SyntaxTree, kind_id

NORETURN_FUNCTIONS = frozenset(
    b"abort exit _exit _Exit quick_exit longjmp siglongjmp pthread_exit thrd_exit "
    b"__builtin_abort __builtin_exit __builtin_longjmp __builtin_trap __builtin_unreachable".split()
)
"""Functions of C and POSIX, and built-in ones of GCC, that do not come back."""

_FUNCTION = kind_id("function_definition")
_FUNCTION_DECLARATOR = kind_id("function_declarator")
_BLOCK = kind_id("compound_statement")
_IDENTIFIER = kind_id("identifier")

_CONTROL_WORDS = frozenset(b"if while for switch".split())

_MAX_OF_ONE_NAME = 8


class Functions:
    """Tells functions from macros before a block, and finds nested functions (a GNU extension)."""

    def __init__(self, tree: SyntaxTree) -> None:
        self._tree = tree
        self.are_all_of_file = self._are_all_of_file()
        """Whether none is inside another, or inside broken code."""
        self.nested: dict[int, bytes] = dict(self._find_nested())
        """Functions inside functions, and their names."""

    def _are_all_of_file(self) -> bool:
        kinds, parents = self._tree.kinds, self._tree.parents
        num_functions = kinds.count(_FUNCTION)
        if num_functions == 1:
            return parents[kinds.index(_FUNCTION)] == 0
        return num_functions == 0 or not any(
            kind == _FUNCTION and parents[node] != 0 for node, kind in enumerate(kinds)
        )

    def is_function(self, node: int) -> bool:
        """Return whether ``node`` defines a function; a macro before a block may look like it."""
        if self._tree.kinds[node] != _FUNCTION:
            return False
        name = self.name_of(node)
        return self._tree.parents[node] == 0 if name is None else name not in _CONTROL_WORDS

    def name_of(self, definition: int) -> bytes | None:
        """Return the name in the definition's declarator, if it has one."""
        for node in range(definition + 1, self._tree.last[definition] + 1):
            if self._tree.kinds[node] == _FUNCTION_DECLARATOR:
                return self._tree.text_at(node + 1) or b""
            if self._tree.kinds[node] == _BLOCK:
                break
        return None

    def _find_nested(self) -> Iterator[tuple[int, bytes]]:
        if self.are_all_of_file:
            return
        around: list[int] = []
        for node, kind in enumerate(self._tree.kinds):
            if kind == _FUNCTION and self.is_function(node):
                while around and self._tree.last[around[-1]] < node:
                    around.pop()
                if around:
                    yield node, self.name_of(node) or b""
                around.append(node)

    def mentions_of_nested(self) -> Iterator[tuple[int, int]]:
        """Yield each identifier that names a nested function, and that function."""
        functions: dict[bytes, list[int]] = {}
        for function, name in self.nested.items():
            functions.setdefault(name, []).append(function)
        for node, text in enumerate(self._tree.texts):
            if text is not None and text in functions and self._tree.kinds[node] == _IDENTIFIER:
                candidates = functions[text]
                end = bisect(candidates, node)
                before = candidates[max(0, end - _MAX_OF_ONE_NAME) : end]
                visible = [f for f in before if self._is_visible(f, node)]
                if visible:
                    yield node, visible[-1]

    def _is_visible(self, function: int, node: int) -> bool:
        """Return whether ``node`` is in the block that holds the nested ``function``."""
        return node <= self._tree.last[self._tree.parents[function]]
