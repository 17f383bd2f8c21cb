mod rules;

use proptest::prelude::*;

use super::*;
use crate::room::fixture::{World, steps, versions};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_selected_auth_events_say_what_the_state_says(
        steps in steps(),
        version in prop::sample::select(versions()),
    ) {
        let (mut world, _) = World::new(version);
        world.play(&steps);
        for id in world.ids() {
            // A rejected event would be denied for that alone.
            let pdu = Pdu::parse(&world.pdu(&id).unwrap().object(), world.version).unwrap();
            let by_selection = check_auth_events(&pdu, &world, world.version).unwrap();
            let by_state = check_state(&pdu, &world.before(&id), &world, world.version).unwrap();
            prop_assert_eq!(&by_selection, &by_state);
            prop_assert_eq!(world.pdu(&id).unwrap().rejected(), by_state != Verdict::Allowed);
        }
    }
}
