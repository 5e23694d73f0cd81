//! Golden files, for the tests.

use std::collections::HashMap;
use std::path::Path;

use aff_geometry::Canvas;
use aff_ops::Positions;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;

/// The tensors of a file of `fixtures/`.
pub(crate) struct Golden {
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    pub(crate) fn read(file: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(file);
        Self { tensors: candle_core::safetensors::load(path, &Device::Cpu).unwrap() }
    }

    pub(crate) fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("the golden file has no {name}"))
    }

    /// Names that start so, without it.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<_> =
            self.tensors.keys().filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned())).collect();
        names.sort();
        names
    }

    /// A tensor as a variable.
    pub(crate) fn var(&self, name: &str) -> Var {
        Var::from_tensor(self.get(name)).unwrap()
    }

    /// The variables whose names start so, named without it.
    pub(crate) fn vars(&self, prefix: &str) -> Vec<(String, Var)> {
        let var = |name: String| {
            let var = self.var(&format!("{prefix}{name}"));
            (name, var)
        };
        self.names(prefix).into_iter().map(var).collect()
    }

    pub(crate) fn positions(&self, name: &str, canvas: Canvas) -> Positions {
        let tensor = self.get(name);
        let flat = tensor.flatten_all().unwrap().to_vec1::<i32>().unwrap();
        let xy = flat.chunks_exact(2).map(|pair| [pair[0], pair[1]]).collect();
        Positions::new(xy, tensor.dims()[0], canvas).unwrap()
    }

    /// Fails unless a tensor is the golden one of that name, within a tolerance relative to its largest magnitude.
    pub(crate) fn assert_close(&self, name: &str, found: &Tensor, tolerance: f32) {
        let expected = self.get(name);
        assert_eq!(found.dims(), expected.dims(), "{name}");
        let largest = |x: &Tensor| x.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        let difference = largest(&(found - expected).unwrap());
        let allowed = tolerance * largest(expected).max(1.0);
        assert!(difference <= allowed, "{name}: differs by {difference}; {allowed} is allowed");
    }

    /// Fails unless a gradient is `grad.NAME` of the file, within a tolerance relative to its norm.
    pub(crate) fn assert_gradient(&self, name: &str, found: &Tensor, tolerance: f32) {
        let expected = self.get(&format!("grad.{name}"));
        let norm =
            |x: &Tensor| x.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar::<f32>().unwrap();
        let difference = norm(&(found - expected).unwrap());
        let allowed = tolerance * norm(expected);
        assert!(difference <= allowed, "gradient of {name}: differs by {difference}; {allowed} is allowed");
    }
}

/// What networks are built from.
pub(crate) fn builder(vars: &[(String, Var)]) -> VarBuilder<'static> {
    let tensors = vars.iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)
}
