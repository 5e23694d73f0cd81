//! What heads compute.

use candle_core::{Result, Tensor, bail};

/// Whether predictions before the last are kept; training looks at them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auxiliary {
    /// Keep the predictions of all layers.
    Keep,
    /// Only the last prediction.
    Drop,
}

/// What a network computes, by the kind of its head.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Output {
    /// Logits of the classes of each image, `[B,classes]`.
    Classes(Tensor),
    /// A class and a mask for each object query.
    Masks(MaskOutput),
    /// A class and a box for each object query.
    Boxes(BoxOutput),
}

/// What a segmentation head computes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct MaskOutput {
    /// After the last layer.
    pub prediction: MaskPrediction,
    /// Before the first layer and after every layer but the last; empty with [`Auxiliary::Drop`].
    pub auxiliary: Vec<MaskPrediction>,
    /// What training adds to the losses of the predictions, as it is: a scalar. HCFormer keeps its assignments sharp with it
    /// (section 11 of the method).
    pub regularization: Option<Tensor>,
}

/// A class and a mask for every query.
#[derive(Debug, Clone)]
pub struct MaskPrediction {
    /// `[B,Q,classes+1]`; the last class is "no object".
    pub class_logits: Tensor,
    /// `[B,Q,h,w]` on the stride-4 canvas.
    pub mask_logits: Tensor,
}

/// What a detection head computes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BoxOutput {
    /// After the last layer.
    pub prediction: BoxPrediction,
    /// After every layer but the last; empty with [`Auxiliary::Drop`].
    pub auxiliary: Vec<BoxPrediction>,
    /// What every token of the encoder proposes (for class 0 alone), where the head has two stages; absent with
    /// [`Auxiliary::Drop`].
    pub proposals: Option<BoxPrediction>,
}

/// A class and a box for every query.
#[derive(Debug, Clone)]
pub struct BoxPrediction {
    /// `[B,Q,classes]`, to be taken through a sigmoid each; there is no "no object".
    pub class_logits: Tensor,
    /// `[B,Q,4]`: (centre x, centre y, width, height) in fractions of the network's input.
    pub boxes: Tensor,
}

impl Output {
    /// The boxes of a detector.
    ///
    /// # Errors
    /// If the network is none.
    pub fn into_boxes(self) -> Result<BoxOutput> {
        match self {
            Self::Boxes(boxes) => Ok(boxes),
            other => bail!("the network predicts {}; boxes were asked for", other.kind()),
        }
    }

    /// The logits of a classifier.
    ///
    /// # Errors
    /// If the network is none.
    pub fn into_classes(self) -> Result<Tensor> {
        match self {
            Self::Classes(logits) => Ok(logits),
            other => bail!("the network predicts {}; classes of images were asked for", other.kind()),
        }
    }

    /// The masks of a segmenter.
    ///
    /// # Errors
    /// If the network is none.
    pub fn into_masks(self) -> Result<MaskOutput> {
        match self {
            Self::Masks(masks) => Ok(masks),
            other => bail!("the network predicts {}; masks were asked for", other.kind()),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Classes(_) => "classes of images",
            Self::Masks(_) => "masks",
            Self::Boxes(_) => "boxes",
        }
    }
}

impl BoxOutput {
    /// Takes the last of the predictions of all layers as the prediction.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(mut predictions: Vec<BoxPrediction>, proposals: Option<BoxPrediction>) -> Result<Self> {
        let Some(prediction) = predictions.pop() else { bail!("the head predicted nothing") };
        Ok(Self { prediction, auxiliary: predictions, proposals })
    }
}

impl MaskOutput {
    /// Takes the last of the predictions of all layers as the prediction.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(mut predictions: Vec<MaskPrediction>, regularization: Option<Tensor>) -> Result<Self> {
        let Some(prediction) = predictions.pop() else { bail!("the head predicted nothing") };
        Ok(Self { prediction, auxiliary: predictions, regularization })
    }
}
