"""Functions that TensorFlow traces into graphs as they are written."""

import contextlib
import contextvars
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from ktransformer.tasks.inputs import check_batch, to_tensor

# AutoGraph would first rewrite every function on the way, Keras' and a subclass's included, which
# takes longer than tracing some of them. All loops here are TensorFlow's own, and Keras trains and
# exports without it, too.
graph_function = functools.partial(tf.function, autograph=False)

_INLINED = contextvars.ContextVar("graph methods are inlined", default=False)


@contextlib.contextmanager
def inlined() -> Iterator[None]:
    """Graph methods called within it are traced again, as a part of the graph that is traced.

    Otherwise a graph that calls another one's method calls its graph, which is traced once. Needed
    where the variables have been replaced, as in a `keras.StatelessScope`.
    """
    token = _INLINED.set(True)
    try:
        yield
    finally:
        _INLINED.reset(token)


# Called with the object, an argument's name and its tensor, which is not symbolic; raises.
InputCheck = Callable[[Any, str, tf.Tensor], None]


class GraphMethod:
    """A method that is a graph: a `tf.function` whose arguments are checked before it is called.

    A `tf.function` keeps its lock when its arguments do not fit its signature, and every other
    thread that calls it then waits for ever (TensorFlow 2.21); and it holds its object weakly.
    This one turns its arguments into tensors first, raises if one does not fit, and keeps the
    object alive. Called on tensors of another graph, that graph calls it; see `inlined`.

    Args:
        method: Takes the object and a tensor for each of the signature's.
        input_signature: Its inputs, in order.
        check: Looks at the values of each argument; called outside of graphs alone.
    """

    def __init__(
        self,
        method: Callable[..., Any],
        input_signature: Sequence[tf.TensorSpec],
        check: InputCheck | None = None,
    ) -> None:
        functools.update_wrapper(self, method)
        self.method = method
        self.function = graph_function(method, input_signature=list(input_signature))
        self.specs = tuple(input_signature)
        self.check = check
        self.signature = inspect.signature(method)

    def __call__(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs the graph of an object."""
        return BoundGraphMethod(self, instance)(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else BoundGraphMethod(self, instance)


class BoundGraphMethod:
    """A `GraphMethod` of one object, with the interface of a `tf.function`.

    Attributes:
        function: The `tf.function` itself, which checks nothing.
    """

    def __init__(self, graph_method: GraphMethod, instance: Any) -> None:
        self.__doc__ = graph_method.method.__doc__
        self._graph_method = graph_method
        self._instance = instance
        self.function = graph_method.function.__get__(instance, type(instance))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the graph.

        Raises:
            InputError: An argument does not fit; the message names it.
            TypeError: There are too many arguments, too few or unknown ones.
        """
        method = self._graph_method
        values = method.signature.bind(self._instance, *args, **kwargs).args[1:]
        names = list(method.signature.parameters)[1:]
        tensors = [to_tensor(*each) for each in zip(names, values, method.specs, strict=True)]
        check_batch(dict(zip(names, tensors, strict=True)))
        if method.check is not None:
            for name, tensor in zip(names, tensors, strict=True):
                if not tf.is_symbolic_tensor(tensor):
                    method.check(self._instance, name, tensor)
        return (self.python_function if _INLINED.get() else self.function)(*tensors)

    @property
    def input_signature(self) -> tuple[tf.TensorSpec, ...]:
        """The graph's inputs."""
        return self._graph_method.specs

    @property
    def __wrapped__(self) -> Callable[..., Any]:  # For `inspect.signature` and `help`.
        return self.python_function

    @property
    def python_function(self) -> Callable[..., Any]:
        """The plain method, which becomes part of the graph that is being traced."""
        return types.MethodType(self._graph_method.method, self._instance)

    def get_concrete_function(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the traced graph; see `tf.function`."""
        return self.function.get_concrete_function(*args, **kwargs)


def graph_method(
    *, input_signature: Sequence[tf.TensorSpec], check: InputCheck | None = None
) -> Callable[[Callable[..., Any]], GraphMethod]:
    """Makes a method a `GraphMethod`; a decorator."""
    return functools.partial(GraphMethod, input_signature=input_signature, check=check)


def to_tf_functions(signatures: dict[str, Any]) -> dict[str, Any]:
    """Returns signatures as `tf.saved_model.save` takes them, graph methods as `tf.function`s."""
    return {
        name: each.function if isinstance(each, BoundGraphMethod) else each
        for name, each in signatures.items()
    }
