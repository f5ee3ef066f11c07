//! Object stores: content that is too large for a message, by reference.

use crate::connect::Bus;
use crate::error::Error;
use async_nats::jetstream::object_store::{GetErrorKind, ObjectStore};
use orchion_contract::stores::{BlobRef, MAX_BLOB_BYTES, StoreSpec};
use tokio::io::AsyncReadExt;

impl Bus {
    /// Stores content under its reference, unless it lies there already.
    ///
    /// # Errors
    /// When the store is full or no answer came; storing again is safe.
    pub async fn put_blob(
        &self,
        store: &StoreSpec,
        blob: &BlobRef,
        content: &[u8],
    ) -> Result<(), Error> {
        let objects = self.objects(store).await?;
        if objects.info(&blob.name).await.is_ok() {
            return Ok(());
        }
        let put = objects.put(blob.name.as_str(), &mut &*content).await;
        put.map_err(|error| Error::nats(format!("store a blob in {}", store.name), error))?;
        Ok(())
    }

    /// The content of a reference; `None` when it is not there (any more), or
    /// is not what the reference says.
    ///
    /// # Errors
    /// When no answer came; asking again is safe.
    pub async fn get_blob(
        &self,
        store: &StoreSpec,
        blob: &BlobRef,
    ) -> Result<Option<Vec<u8>>, Error> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::nats(format!("read a blob of {}", store.name), error)
        };
        let objects = self.objects(store).await?;
        let object = match objects.get(&blob.name).await {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        if object.info().size as u64 != blob.bytes || blob.bytes > MAX_BLOB_BYTES {
            return Ok(None);
        }
        let mut content = Vec::with_capacity(object.info().size);
        // The reference bounds what is read, whatever the store says.
        let mut object = object.take(blob.bytes + 1);
        let read = object.read_to_end(&mut content).await;
        read.map_err(|error| failed(error.into()))?;
        Ok(blob.is(&content).then_some(content))
    }

    async fn objects(&self, store: &StoreSpec) -> Result<ObjectStore, Error> {
        let opened = self.js().get_object_store(store.name).await;
        opened.map_err(|error| Error::nats(format!("open object store {}", store.name), error))
    }
}
