# A test server only: built from its Go module, run beside the product, never linked into it.
FROM scratch
COPY minio /minio
USER 10001:10001
ENTRYPOINT ["/minio"]
