//! Load, faults, races and kills at any time: no hangs, nothing left.

pub mod crash;
pub mod ends;
pub mod faults;
pub mod hangs;
pub mod robust;
pub mod soak;
