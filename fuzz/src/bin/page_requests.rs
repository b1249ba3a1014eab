#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vetwatch::fuzzing::page_requests(input));
