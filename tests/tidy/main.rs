//! The house rules that neither the compiler nor clippy checks: layers and rooms, circles of files, the
//! one door to the kernel, dependencies, manual pages, the configurations that are shown.
//!
//! Each rule is a function from text to findings. It runs over the repository, and next to it over
//! bad input, so that a rule that finds nothing is known to be able to find something.
//!
//! `repository` and `rust` are the tools of all: which files there are, and what is code in them.
//! `imports` reads which file imports from which.

mod circles;
mod completions;
mod configurations;
mod contributing;
mod dependencies;
mod imports;
mod layers;
mod lengths;
mod manuals;
mod repository;
mod rust;
mod words;
