package snapshot

import (
	"errors"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"go.uber.org/zap"
)

// withoutLogin turns authentication off in a data directory that nobody but the drill will ever use: it knows no password.
func withoutLogin(dataDir string) (err error) {
	log := zap.NewNop()
	be := backend.NewDefaultBackend(log, filepath.Join(dataDir, "member", "snap", "db"))
	defer func() { err = errors.Join(err, be.Close()) }()
	auth := schema.NewAuthBackend(log, be)
	auth.CreateAuthBuckets()
	tx := auth.BatchTx()
	tx.Lock()
	defer tx.Unlock()
	tx.UnsafeSaveAuthEnabled(false)
	return nil
}
