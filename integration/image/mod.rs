//! Images: unpacked, run, committed, damaged, hostile.

pub mod images;
pub mod images_commit;
pub mod images_diff;
pub mod images_documents;
pub mod images_entries;
pub mod images_etc;
pub mod images_flags;
pub mod images_guard;
pub mod images_hostile;
pub mod images_ids;
pub mod images_json;
pub mod images_limits;
pub mod images_links;
pub mod images_live;
pub mod images_peers;
pub mod images_points;
pub mod images_shapes;
pub mod images_sparse;
pub mod images_store;
pub mod images_users;
pub mod images_volumes;
