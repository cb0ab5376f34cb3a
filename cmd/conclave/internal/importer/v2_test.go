package importer_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/cmd/conclave/internal/importer"
)

// unpacked is the data directory that etcd 3.4.23 left, of which testdata has its own answer too: a snapshot, and a log that goes on behind
// it with writes, a compare-and-swap that failed, a refreshed TTL, a deleted tree and an expiry.
func unpacked(t *testing.T) string {
	t.Helper()
	f, err := os.Open("testdata/etcd-3.4-v2.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Clean(h.Name))
		if h.FileInfo().IsDir() {
			err = os.MkdirAll(path, 0o700)
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A v2Answer is what etcd's v2 API answered.
type v2Answer struct {
	Key, Value string
	Dir        bool
	Expiration time.Time
	Nodes      []v2Answer
}

// keys lists the keys of an answer, with the time at which they end.
func (a v2Answer) keys(expires time.Time, into map[string]importer.Item) {
	if !a.Expiration.IsZero() && (expires.IsZero() || a.Expiration.Before(expires)) {
		expires = a.Expiration
	}
	if !a.Dir {
		into[a.Key] = importer.Item{From: a.Key, Key: a.Key, Value: []byte(a.Value), Expires: expires}
	}
	for _, n := range a.Nodes {
		n.keys(expires, into)
	}
}

func TestV2DataOfEtcd34(t *testing.T) {
	got, err := importer.FromV2(unpacked(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("testdata/etcd-3.4-v2.json")
	if err != nil {
		t.Fatal(err)
	}
	var answer v2Answer
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]importer.Item)
	answer.keys(time.Time{}, want)
	// The API does not list hidden keys; they are data all the same.
	want["/_hidden/secret"] = importer.Item{From: "/_hidden/secret", Key: "/_hidden/secret", Value: []byte("s")}
	for _, i := range got.Items {
		w, ok := want[i.Key]
		if !ok || !bytes.Equal(i.Value, w.Value) || !i.Expires.Equal(w.Expires) {
			t.Errorf("%+v, want %+v", i, w)
		}
		delete(want, i.Key)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", slices.Sorted(maps.Keys(want)))
	}
	if len(got.Notes) != 1 || !strings.HasPrefix(got.Notes[0], "1 directories are empty") {
		t.Errorf("notes %v", got.Notes)
	}
}

// Without its snapshot the log is replayed from the beginning, and gives the same.
func TestV2LogAlone(t *testing.T) {
	whole, alone := unpacked(t), unpacked(t)
	if err := os.RemoveAll(filepath.Join(alone, "member", "snap")); err != nil {
		t.Fatal(err)
	}
	want, err := importer.FromV2(whole)
	if err != nil {
		t.Fatal(err)
	}
	got, err := importer.FromV2(alone)
	if err != nil {
		t.Fatal(err)
	}
	same := func(a, b importer.Item) bool {
		return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.Expires.Equal(b.Expires)
	}
	if len(want.Items) == 0 || !slices.EqualFunc(got.Items, want.Items, same) {
		t.Errorf("got %v, want %v", got.Items, want.Items)
	}
}

func TestV2DirectoriesThatAreNone(t *testing.T) {
	if _, err := importer.FromV2(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
	dir := unpacked(t)
	logs, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	b, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	b[1500] ^= 1
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := importer.FromV2(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a damaged log: %v", err)
	}
}
