//! In-memory reference backends, one for each trait: what the traits mean, and what tests run on.
