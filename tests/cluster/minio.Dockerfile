# A server that is used only by tests. It is built from its Go module and runs as a separate
# program; the product does not link it.
FROM scratch
COPY minio /minio
USER 10001:10001
ENTRYPOINT ["/minio"]
