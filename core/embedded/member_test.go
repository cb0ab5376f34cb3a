package embedded_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/embedded"
)

func config(dir string) embedded.Config {
	return embedded.Config{DataDir: dir, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Fast: true, NoFsync: true}
}

func start(t *testing.T, cfg embedded.Config) *embedded.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := embedded.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil && !errors.Is(err, embedded.ErrStopped) {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func TestRestartKeepsData(t *testing.T) {
	dir := t.TempDir()
	m := start(t, config(dir))
	put, err := m.Client().Put(t.Context(), "k", "v")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Done():
	default:
		t.Error("Done is open after Close")
	}
	m = start(t, config(dir))
	got, err := m.Client().Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || got.Kvs[0].ModRevision != put.Header.Revision {
		t.Errorf("after a restart: %v, want revision %d", got.Kvs, put.Header.Revision)
	}
}
