#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| brig_fuzz::unpacked(bytes));
