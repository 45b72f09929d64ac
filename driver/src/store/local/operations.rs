//! The S3 operations of the local store: checks that s3s-fs lacks, then s3s-fs.

use super::{LocalStore, finish};
use crate::store::{conditions::ReadConditions, names, regions};
use s3s::{
    S3, S3Error, S3Request, S3Response, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, BucketLocationConstraint,
        CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyObjectInput,
        CopyObjectOutput, CopySource, CreateBucketInput, CreateBucketOutput,
        CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteBucketInput,
        DeleteBucketOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput,
        DeleteObjectsOutput, GetBucketLocationInput, GetBucketLocationOutput, GetObjectInput,
        GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
        ListBucketsInput, ListBucketsOutput, ListObjectsInput, ListObjectsOutput,
        ListObjectsV2Input, ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutObjectInput,
        PutObjectOutput, Range, UploadPartCopyInput, UploadPartCopyOutput, UploadPartInput,
        UploadPartOutput,
    },
    s3_error,
};

/// S3's own bound for a page of keys.
const MAX_KEYS: i32 = 1000;

#[async_trait::async_trait]
impl S3 for LocalStore {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = req.input.bucket.clone();
        let configuration = req.input.create_bucket_configuration.as_ref();
        let constraint = configuration.and_then(|it| it.location_constraint.as_ref());
        let region = regions::of_constraint(constraint.map(BucketLocationConstraint::as_str))?;
        if names::bucket_path(&self.root, &bucket)?.is_dir() {
            // In us-east-1, and only there, whoever owns a bucket may create it again.
            if [region, &regions::of_bucket(&self.root, &bucket)?] != [regions::DEFAULT; 2] {
                return Err(s3_error!(BucketAlreadyOwnedByYou));
            }
        } else {
            // First, so that there is no bucket without its region.
            regions::remember(&self.root, &bucket, region)?;
            self.files.create_bucket(req).await?;
        }
        let location = Some(format!("/{bucket}"));
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.check_bucket(&req.input.bucket)?;
        if self.has_objects(&req.input.bucket).await? {
            return Err(s3_error!(BucketNotEmpty));
        }
        let bucket = req.input.bucket.clone();
        let answer = self.files.delete_bucket(req).await?;
        regions::forget(&self.root, &bucket);
        Ok(answer)
    }

    async fn head_bucket(
        &self,
        req: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let bucket_region = Some(regions::of_bucket(&self.root, &req.input.bucket)?);
        Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let region = regions::of_bucket(&self.root, &req.input.bucket)?;
        // S3 has no word for its first region.
        let constraint = (region != regions::DEFAULT).then(|| region.into());
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint: constraint }))
    }

    async fn list_buckets(
        &self,
        req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        self.files.list_buckets(req).await
    }

    async fn list_objects(
        &self,
        mut req: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let bucket = req.input.bucket.clone();
        req.input.max_keys = Some(req.input.max_keys.unwrap_or(MAX_KEYS).clamp(0, MAX_KEYS));
        req.input.encoding_type = None;
        let mut answer = self.files.list_objects(req).await?;
        self.add_etags(&bucket, answer.output.contents.as_mut()).await?;
        Ok(answer)
    }

    async fn list_objects_v2(
        &self,
        mut req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.check_bucket(&req.input.bucket)?;
        let bucket = req.input.bucket.clone();
        req.input.max_keys = Some(req.input.max_keys.unwrap_or(MAX_KEYS).clamp(0, MAX_KEYS));
        // s3s-fs says that it encoded keys and does not: then boto3 decodes what never was encoded.
        req.input.encoding_type = None;
        let mut answer = self.files.list_objects_v2(req).await?;
        self.add_etags(&bucket, answer.output.contents.as_mut()).await?;
        Ok(answer)
    }

    async fn get_object(
        &self,
        mut req: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let _guard = self.lock_read(&bucket, &key).await;
        let path = self.check_object(&bucket, &key)?;
        let conditions = ReadConditions {
            etag: req.input.if_match.take(),
            not_etag: req.input.if_none_match.take(),
            modified_since: req.input.if_modified_since.take(),
            unmodified_since: req.input.if_unmodified_since.take(),
        };
        self.check_conditions(&bucket, &key, &conditions).await?;
        if let Some(Range::Suffix { length }) = req.input.range {
            let len = path.metadata().map_err(S3Error::internal_error)?.len();
            // s3s-fs would seek before the start of an object shorter than the suffix.
            let first = len.saturating_sub(length);
            if length == 0 || len == 0 {
                return Err(s3_error!(InvalidRange));
            }
            req.input.range = Some(Range::Int { first, last: None });
        }
        self.files.get_object(req).await
    }

    async fn head_object(
        &self,
        mut req: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let _guard = self.lock_read(&bucket, &key).await;
        self.check_object(&bucket, &key)?;
        let conditions = ReadConditions {
            etag: req.input.if_match.take(),
            not_etag: req.input.if_none_match.take(),
            modified_since: req.input.if_modified_since.take(),
            unmodified_since: req.input.if_unmodified_since.take(),
        };
        self.check_conditions(&bucket, &key, &conditions).await?;
        self.files.head_object(req).await
    }

    async fn put_object(
        &self,
        req: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.check_target(&req.input.bucket, &req.input.key)?;
        finish(self.clone().put(req)).await
    }

    async fn copy_object(
        &self,
        req: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let (bucket, key) = copy_source(&req.input.copy_source)?;
        self.check_object(&bucket, &key)?;
        self.check_target(&req.input.bucket, &req.input.key)?;
        let store = self.clone();
        finish(async move {
            let target = (req.input.bucket.as_str(), req.input.key.as_str());
            let _guards = store.lock_copy((&bucket, &key), target).await;
            store.files.copy_object(req).await
        })
        .await
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let _guard = self.lock_write(&req.input.bucket, &req.input.key).await;
        let path = names::object_path(&self.root, &req.input.bucket, &req.input.key)?;
        if path.is_dir() && !req.input.key.ends_with('/') {
            return Ok(S3Response::new(DeleteObjectOutput::default()));
        }
        self.files.delete_object(req).await
    }

    async fn delete_objects(
        &self,
        mut req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.check_bucket(&req.input.bucket)?;
        let mut folders = Vec::new();
        for object in &req.input.delete.objects {
            let path = names::object_path(&self.root, &req.input.bucket, &object.key)?;
            if path.is_dir() && !object.key.ends_with('/') {
                folders.push(object.key.clone());
            }
        }
        // Deleting what is not there is no failure, but s3s-fs fails on a folder.
        req.input.delete.objects.retain(|object| !folders.contains(&object.key));
        self.files.delete_objects(req).await
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.check_target(&req.input.bucket, &req.input.key)?;
        self.files.create_multipart_upload(req).await
    }

    async fn upload_part(
        &self,
        req: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.check_target(&req.input.bucket, &req.input.key)?;
        if req.input.part_number < 1 {
            return Err(s3_error!(InvalidArgument));
        }
        finish(self.clone().put_part(req)).await
    }

    async fn upload_part_copy(
        &self,
        req: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let (bucket, key) = copy_source(&req.input.copy_source)?;
        let _guard = self.lock_read(&bucket, &key).await;
        self.check_object(&bucket, &key)?;
        self.files.upload_part_copy(req).await
    }

    async fn list_parts(
        &self,
        req: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        self.check_bucket(&req.input.bucket)?;
        self.files.list_parts(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.check_target(&req.input.bucket, &req.input.key)?;
        let store = self.clone();
        finish(async move {
            let _guard = store.lock_write(&req.input.bucket, &req.input.key).await;
            store.files.complete_multipart_upload(req).await
        })
        .await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.files.abort_multipart_upload(req).await
    }
}

fn copy_source(source: &CopySource) -> S3Result<(String, String)> {
    match source {
        CopySource::Bucket { bucket, key, .. } => Ok((bucket.to_string(), key.to_string())),
        CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => {
            Err(s3_error!(NotImplemented))
        }
    }
}
