package schedule

import (
	"context"
	"crypto/md5" //nolint:gosec // what buckets compare an upload with; it protects nothing
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/fileblob" // the one driver that every host has
)

// A Place holds snapshots: a directory, or a bucket.
type Place struct {
	dir    string
	bucket *blob.Bucket
	to     string
}

// IsBucket reports whether to names a bucket, by a URL, and no directory.
func IsBucket(to string) bool { return strings.Contains(to, "://") }

// OpenPlace opens the directory or bucket that to names. A directory that is missing is made, with mode 0700. A URL for which no driver
// is linked is an error.
func OpenPlace(ctx context.Context, to string) (*Place, error) {
	if !IsBucket(to) {
		if err := os.MkdirAll(to, 0o700); err != nil {
			return nil, fmt.Errorf("snapshots: %w", err)
		}
		return &Place{dir: to, to: to}, nil
	}
	b, err := blob.OpenBucket(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("snapshots: bucket %s: %w", to, err)
	}
	return &Place{bucket: b, to: to}, nil
}

// Close lets go of a bucket.
func (p *Place) Close() error {
	if p.bucket == nil {
		return nil
	}
	return p.bucket.Close()
}

// String returns what OpenPlace was given.
func (p *Place) String() string { return p.to }

// List returns the snapshots, the newest first.
func (p *Place) List(ctx context.Context) ([]File, error) {
	files, err := p.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", p, err)
	}
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(b.Name, a.Name) })
	return files, nil
}

func (p *Place) list(ctx context.Context) ([]File, error) {
	if p.bucket == nil {
		return listDir(p.dir)
	}
	var files []File
	for it := p.bucket.List(&blob.ListOptions{Prefix: namePrefix}); ; {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if f, ok := parseName(o.Key); ok {
			f.Bytes = o.Size
			files = append(files, f)
		}
	}
}

func listDir(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []File
	for _, e := range entries {
		f, ok := parseName(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		f.Bytes = info.Size()
		files = append(files, f)
	}
	return files, nil
}

// add moves the whole snapshot in file to the place. A bucket gets a copy and its digest, so that a copy that went wrong is refused.
func (p *Place) add(ctx context.Context, file, name string) error {
	if p.bucket == nil {
		return os.Rename(file, filepath.Join(p.dir, name))
	}
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it is only read
	sum := md5.New()                  //nolint:gosec // as above
	if _, err := io.Copy(sum, in); err != nil {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return p.bucket.Upload(ctx, name, in, &blob.WriterOptions{ContentType: "application/octet-stream", ContentMD5: sum.Sum(nil)})
}

// scratch is where a snapshot is saved first: beside its place if that is a directory, so that moving it there is one step.
func (p *Place) scratch() (dir string, remove func() error, err error) {
	if dir, err = os.MkdirTemp(p.dir, ".conclave-snapshot-*"); err != nil {
		return "", nil, err
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

func (p *Place) remove(ctx context.Context, name string) error {
	if p.bucket == nil {
		return os.Remove(filepath.Join(p.dir, name))
	}
	return p.bucket.Delete(ctx, name)
}
