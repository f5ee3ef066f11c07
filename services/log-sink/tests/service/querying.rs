//! What is asked for is what is found.

use crate::world::{SOON, World, record};
use orchion_contract::JobId;
use orchion_contract::log::Level::{self, Debug, Error, Info, Warn};
use orchion_contract::log::LogQuery;

fn numbers(records: &[orchion_contract::log::LogRecord]) -> Vec<u64> {
    records.iter().map(|record| record.ts_ms).collect()
}

#[tokio::test]
async fn filters_and_their_combinations() {
    let world = World::new().await;
    let _running = world.start();
    let job = JobId::now();
    let levels = [Debug, Info, Warn, Error];
    for number in 0..8_u64 {
        let level = levels[usize::try_from(number % 4).unwrap()];
        let of_job = (number >= 4).then_some(job);
        world.log(&record(number, level, of_job)).await;
    }
    world.holds(8).await;

    let all = LogQuery {
        source: Some("gateway".to_owned()),
        ..LogQuery::default()
    };
    let at_least = |level: Level| LogQuery {
        level: Some(level),
        ..all.clone()
    };
    let cases = [
        (all.clone(), vec![0, 1, 2, 3, 4, 5, 6, 7]),
        (
            LogQuery {
                source: Some("registry".to_owned()),
                ..all.clone()
            },
            vec![],
        ),
        (at_least(Debug), vec![0, 1, 2, 3, 4, 5, 6, 7]),
        (at_least(Info), vec![1, 2, 3, 5, 6, 7]),
        (at_least(Warn), vec![2, 3, 6, 7]),
        (at_least(Error), vec![3, 7]),
        (
            LogQuery {
                since_ms: Some(3),
                until_ms: Some(6),
                ..all.clone()
            },
            vec![3, 4, 5],
        ),
        (
            LogQuery {
                job: Some(job),
                ..all.clone()
            },
            vec![4, 5, 6, 7],
        ),
        (
            LogQuery {
                job: Some(JobId::now()),
                ..all.clone()
            },
            vec![],
        ),
        (
            LogQuery {
                limit: Some(2),
                ..all.clone()
            },
            vec![6, 7],
        ),
        (
            LogQuery {
                limit: Some(0),
                ..all.clone()
            },
            vec![],
        ),
        (
            LogQuery {
                job: Some(job),
                limit: Some(1),
                until_ms: Some(7),
                ..at_least(Warn)
            },
            vec![6],
        ),
        (
            LogQuery {
                job: Some(job),
                since_ms: Some(5),
                source: None,
                ..at_least(Info)
            },
            vec![5, 6, 7],
        ),
    ];
    for (query, expected) in cases {
        assert_eq!(numbers(&world.query(&query).await), expected, "{query:?}");
    }
    let found = world.query(&at_least(Error)).await.pop().unwrap();
    assert_eq!(found, record(7, Error, Some(job)));
}

#[tokio::test]
async fn an_answer_always_fits_into_a_message() {
    let world = World::new().await;
    let _running = world.start();
    for number in 0..20 {
        let mut large = record(number, Info, None);
        large.message = "\"\n".repeat(20_000);
        world.log(&large).await;
    }
    world.log(&record(20, Warn, None)).await;
    let query = LogQuery::default();
    orchion_testkit::eventually("the newest records", SOON, async || {
        let found = numbers(&world.query(&query).await);
        if found.last() == Some(&20) && found.len() > 3 {
            Ok(())
        } else {
            Err(found)
        }
    })
    .await;
}
