#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wellspring_fuzz::proxy_header::holds(bytes));
