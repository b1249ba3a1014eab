#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vetwatch::fuzzing::http_answers(input));
