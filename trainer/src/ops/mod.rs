//! The operations of a transformer with gradients written by hand, each one node of burn's graph.
//!
//! Composed from burn's elementary operations, softmax, norms and activations walk through memory a dozen times, and a
//! profile of training showed little else. Here each is one pass, compiled for the instruction set that [`Backend`]
//! names (the kernels' own [`Isa`](attentive::kernels::isa::Isa) tokens, so no `unsafe` here). The tests compare every
//! gradient with burn's automatic one.
//!
//! Shapes: `n` is the number of tokens of a micro-batch, all sequences one after the other; every tensor is row-major.

mod activation;
mod attention;
mod cross_entropy;
mod dropout;
mod embed;
mod lanes;
mod linear;
mod norm;
mod pool;
mod product;
mod recurrent;
#[cfg(test)]
mod tests;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Autodiff, BackendTypes, Flex};
use burn::tensor::{Tensor, TensorData};

pub use activation::activation;
pub use attention::{AttentionShape, attention, cross_attention};
pub use cross_entropy::cross_entropy;
pub use dropout::dropout;
pub use embed::embed;
pub use linear::linear;
pub use norm::norm;
pub use pool::pool;
pub use recurrent::{Cell, Stepper, recurrent, times, transposed};

use attentive::kernels::Backend;

/// burn's CPU tensor.
pub(crate) type Flat = <Flex as BackendTypes>::FloatTensorPrimitive;
/// The same, tracked.
pub(crate) type Node = <Autodiff<Flex> as BackendTypes>::FloatTensorPrimitive;

/// The tensor as the backend holds it.
///
/// # Panics
/// When the tensor does not live on the autodiff device of the CPU, which would be a mistake of this crate.
pub(crate) fn node<const D: usize>(tensor: Tensor<D>) -> Node {
    match tensor.try_into_primitive::<Autodiff<Flex>>() {
        Ok(node) => node,
        Err(error) => panic!("a tensor outside the autodiff device: {error:?}"),
    }
}

/// Back to burn's own type.
pub(crate) fn tensor<const D: usize>(node: Node) -> Tensor<D> {
    Tensor::from_primitive::<Autodiff<Flex>>(node)
}

/// Values that burn takes over without a copy.
pub(crate) fn flat<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Flat {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

/// Calls `read` with the values in row-major order, copied first if they lie otherwise.
pub(crate) fn with_values<R>(tensor: &Flat, read: impl FnOnce(&[f32]) -> R) -> R {
    match tensor.as_slice::<f32>() {
        Some(values) => read(values),
        None => read(tensor.to_contiguous().as_slice::<f32>().unwrap_or_default()),
    }
}

/// The gradient that arrived at an operation's output.
pub(crate) fn incoming<S, const N: usize>(ops: &Ops<S, N>, grads: &mut Gradients) -> Flat {
    grads.consume::<Flex>(&ops.node)
}

/// An operation of one input: its forward pass and, from what that saved, its backward pass.
pub(crate) trait Unary: Clone + Send + std::fmt::Debug + 'static {
    /// What the backward pass needs besides the operation itself.
    type Saved: Clone + Send + std::fmt::Debug + 'static;
    /// Output; what is saved is only computed when `keep`.
    fn forward(&self, x: &Flat, keep: bool) -> (Flat, Option<Self::Saved>);
    /// Gradient of the input.
    fn backward(&self, saved: Self::Saved, gradient: &Flat) -> Flat;
}

#[derive(Debug)]
struct UnaryBackward<O>(std::marker::PhantomData<O>);

impl<O: Unary> Backward<Flex, 1> for UnaryBackward<O> {
    type State = (O, O::Saved);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = incoming(&ops, grads);
        let (operation, saved) = ops.state;
        let [parent] = ops.parents;
        if let Some(parent) = parent {
            grads.register::<Flex>(parent.id, operation.backward(saved, &gradient));
        }
    }
}

/// Applies an operation and puts it into the graph.
pub(crate) fn unary<O: Unary, const D: usize, const E: usize>(
    operation: O,
    x: Tensor<D>,
) -> Tensor<E> {
    let x = node(x);
    let prepared = UnaryBackward::<O>(std::marker::PhantomData)
        .prepare::<NoCheckpointing>([x.node()])
        .compute_bound()
        .stateful();
    let output = match prepared {
        OpsKind::Tracked(prepared) => match operation.forward(x.primitive(), true) {
            (y, Some(saved)) => prepared.finish((operation, saved), y),
            (_, None) => unreachable!("an operation that was asked to keep its state kept none"),
        },
        OpsKind::UnTracked(prepared) => prepared.finish(operation.forward(x.primitive(), false).0),
    };
    tensor(output)
}
