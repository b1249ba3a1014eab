#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| vetwatch_partner_center::fuzzing::lists(input));
