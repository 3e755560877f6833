//! Random sequences of operations on data sets: contents stay right, no block is lost, none is freed twice.

use std::collections::BTreeMap;

use pool::block_device::Access;
use pool::dsl::Deferral;
use pool::error::Error;
use pool::future::block_on;
use pool::spa::Spa;

use crate::support::making::{
    MADE, check_sums, contents, devices, disks, pool_on, put, random_from, text,
};
use crate::support::{open_devices, zdb};

/// The files of a data set.
type Files = Vec<(String, Vec<u8>)>;

/// What a random run expects of each data set and snapshot.
type Model = BTreeMap<String, Files>;

struct Run {
    spa: Spa,
    model: Model,
    /// Clones with the snapshot they were made of.
    random: Box<dyn FnMut() -> u64>,
    step: u64,
}

impl Run {
    fn heads(&self) -> Vec<String> {
        self.model
            .keys()
            .filter(|name| !name.contains('@'))
            .cloned()
            .collect()
    }

    fn snapshots(&self) -> Vec<String> {
        self.model
            .keys()
            .filter(|name| name.contains('@'))
            .cloned()
            .collect()
    }

    fn pick(&mut self, from: &[String]) -> String {
        from[(self.random)() as usize % from.len()].clone()
    }

    async fn write(&mut self, name: &str) {
        let file = format!("file{}", (self.random)() % 6);
        let size = [300, 5_000, 140_000, 700_000][(self.random)() as usize % 4];
        let data = text(size, self.step);
        put(&self.spa, name, &file, &data).await;
        self.spa.sync(MADE).await.unwrap();
        let files = self.model.get_mut(name).unwrap();
        files.retain(|(known, _)| *known != file);
        files.push((file, data));
        files.sort();
    }

    async fn step(&mut self) {
        self.step += 1;
        let heads = self.heads();
        let snapshots = self.snapshots();
        let head = self.pick(&heads);
        let fresh = format!("n{}", self.step);
        match (self.random)() % 16 {
            0 | 1 => {
                let name = format!("{head}@{fresh}");
                self.spa
                    .snapshot(&name, MADE, &mut self.random)
                    .await
                    .unwrap();
                self.model.insert(name, self.model[&head].clone());
            }
            2 | 3 if !snapshots.is_empty() => {
                let snapshot = self.pick(&snapshots);
                match self.spa.destroy(&snapshot, Deferral::Refused, MADE).await {
                    Ok(()) => drop(self.model.remove(&snapshot)),
                    other => assert_eq!(other, Err(Error::Busy), "{snapshot}"),
                }
            }
            4 | 5 if !snapshots.is_empty() => {
                let snapshot = self.pick(&snapshots);
                let name = format!("tank/{fresh}");
                self.spa
                    .clone_snapshot(&snapshot, &name, MADE, &mut self.random)
                    .await
                    .unwrap();
                self.model.insert(name, self.model[&snapshot].clone());
            }
            6 => match self.spa.promote(&head, MADE, &mut self.random).await {
                // Snapshots changed hands; what they hold did not.
                Ok(()) => {
                    let mut model = Model::new();
                    for entry in self.spa.list_datasets("tank").await.unwrap() {
                        let last = entry.name.split('@').nth(1);
                        let same =
                            |known: &&String| last.is_some() && known.split('@').nth(1) == last;
                        let old = self.model.keys().find(same).unwrap_or(&entry.name);
                        model.insert(entry.name.clone(), self.model[old].clone());
                    }
                    self.model = model;
                }
                other => assert_eq!(other, Err(Error::InvalidArgument), "{head}"),
            },
            7 | 8 if !snapshots.is_empty() => {
                let snapshot = self.pick(&snapshots);
                match self.spa.rollback(&snapshot, MADE, &mut self.random).await {
                    Ok(()) => {
                        let (head, _) = snapshot.split_once('@').unwrap();
                        self.model
                            .insert(head.into(), self.model[&snapshot].clone());
                    }
                    other => assert_eq!(other, Err(Error::InvalidArgument), "{snapshot}"),
                }
            }
            9 if head != "tank" => match self.spa.destroy(&head, Deferral::Refused, MADE).await {
                Ok(()) => drop(self.model.remove(&head)),
                other => assert_eq!(other, Err(Error::NotEmpty), "{head}"),
            },
            10 if head != "tank" => {
                let name = format!("tank/{fresh}");
                self.spa.rename(&head, &name, MADE).await.unwrap();
                let moved: Vec<String> = self
                    .model
                    .keys()
                    .filter(|known| **known == head || known.starts_with(&format!("{head}@")))
                    .cloned()
                    .collect();
                for old in moved {
                    let files = self.model.remove(&old).unwrap();
                    self.model.insert(old.replacen(&head, &name, 1), files);
                }
            }
            _ => self.write(&head).await,
        }
    }

    async fn check(&self, spa: &Spa) {
        let names: Vec<String> = spa
            .list_datasets("tank")
            .await
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        let mut known: Vec<String> = self.model.keys().cloned().collect();
        let mut found = names.clone();
        known.sort();
        found.sort();
        assert_eq!(found, known);
        for name in names {
            assert!(
                contents(spa, &name).await == self.model[&name],
                "contents of {name}"
            );
        }
        check_sums(spa).await;
    }
}

#[test]
fn random_operations_keep_contents_and_space() {
    for seed in 1..=4 {
        let disks = disks(1);
        let mut random: Box<dyn FnMut() -> u64> = Box::new(random_from(seed));
        let spa = pool_on(&disks[0], &mut random);
        let model = Model::from([("tank".to_string(), Files::new())]);
        let mut run = Run {
            spa,
            model,
            random,
            step: 0,
        };
        block_on(async {
            for _ in 0..70 {
                run.step().await;
            }
            run.check(&run.spa).await;
        });
        match seed {
            1 => zdb::check_data("tank", &disks),
            _ => zdb::check("tank", &disks),
        }
        let spa = open_devices(devices(&disks), Access::ReadOnly);
        block_on(run.check(&spa));
    }
}
