//! One file a command.

pub(crate) mod check;
pub(crate) mod cuda;
pub(crate) mod golden;
pub(crate) mod models;
pub(crate) mod mutate;
pub(crate) mod overfit;
pub(crate) mod release;
pub(crate) mod sanitize;
