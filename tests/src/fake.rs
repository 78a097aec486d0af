//! Services that live on other people's computers, each as one strict server: it refuses what the real one refuses.

pub mod anthropic;
pub mod model;
pub mod openai;
pub mod telegram;
