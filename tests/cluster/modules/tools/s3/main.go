// Command s3 does the five things that the demo and the cluster's scripts want of an S3 server: make a bucket, put a
// file, print objects, list them, delete them. It must not grow into a client of its own kind: the product's storage
// code is in worker-image, and tests compare against what this program sees.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const usage = `usage: s3 make-bucket BUCKET
       s3 put BUCKET KEY <FILE
       s3 cat BUCKET PREFIX
       s3 list BUCKET [PREFIX]
       s3 remove BUCKET PREFIX
Endpoint, keys and region: ZEPHYR_S3_HOST_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION.`

// No command may outlive this: a server that does not answer must end the script that called us.
const deadline = 5 * time.Minute

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "s3:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New(usage)
	}
	verb, bucket, key := args[0], args[1], ""
	if len(args) > 2 {
		key = args[2]
	}
	client, err := connect()
	if err != nil {
		return err
	}
	switch verb {
	case "make-bucket":
		exists, err := client.BucketExists(ctx, bucket)
		if err != nil || exists {
			return err
		}
		return client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{Region: os.Getenv("AWS_REGION")})
	case "put":
		_, err := client.PutObject(ctx, bucket, key, os.Stdin, -1, minio.PutObjectOptions{PartSize: 16 << 20})
		return err
	case "cat":
		return each(ctx, client, bucket, key, func(object minio.ObjectInfo) error {
			reader, err := client.GetObject(ctx, bucket, object.Key, minio.GetObjectOptions{})
			if err != nil {
				return err
			}
			defer reader.Close()
			_, err = io.Copy(os.Stdout, reader)
			return err
		})
	case "list":
		return each(ctx, client, bucket, key, func(object minio.ObjectInfo) error {
			_, err := fmt.Printf("%12d %s\n", object.Size, object.Key)
			return err
		})
	case "remove":
		return each(ctx, client, bucket, key, func(object minio.ObjectInfo) error {
			return client.RemoveObject(ctx, bucket, object.Key, minio.RemoveObjectOptions{})
		})
	}
	return fmt.Errorf("unknown command %q\n%s", verb, usage)
}

func connect() (*minio.Client, error) {
	endpoint, err := url.Parse(os.Getenv("ZEPHYR_S3_HOST_ENDPOINT"))
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("ZEPHYR_S3_HOST_ENDPOINT: not an address (got %q); http://host:port is wanted",
			os.Getenv("ZEPHYR_S3_HOST_ENDPOINT"))
	}
	return minio.New(endpoint.Host, &minio.Options{
		Creds:  credentials.NewEnvAWS(),
		Secure: endpoint.Scheme == "https",
		Region: os.Getenv("AWS_REGION"),
	})
}

// each calls visit for every object below prefix, in the order of keys.
func each(ctx context.Context, client *minio.Client, bucket, prefix string, visit func(minio.ObjectInfo) error) error {
	for object := range client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		if object.Err != nil {
			return object.Err
		}
		if err := visit(object); err != nil {
			return fmt.Errorf("%s: %w", strings.Join([]string{bucket, object.Key}, "/"), err)
		}
	}
	return nil
}
