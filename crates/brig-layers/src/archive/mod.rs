//! A layer as the image-spec has it: a tar archive, compressed or not, as a stream of entries.

pub mod decompress;
pub mod holes;
pub mod pax;
pub mod tar_reader;
pub(crate) mod tar_writer;
