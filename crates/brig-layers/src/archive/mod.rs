//! A layer as defined in the image-spec: a tar archive, possibly compressed, as a stream of entries.

pub mod decompress;
pub mod holes;
pub mod pax;
pub mod tar_reader;
pub(crate) mod tar_writer;
