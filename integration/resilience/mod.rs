//! Load, faults, races and kills at any moment: no hang, nothing left behind.

pub mod crash;
pub mod ends;
pub mod faults;
pub mod hangs;
pub mod robust;
pub mod soak;
