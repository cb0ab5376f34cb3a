package snapshot

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/conclavehq/conclave/internal/logbridge"
)

const (
	// DefaultBump is what a restore adds to the revision: more than an etcd that writes 100,000 revisions a second, without a
	// pause, adds in eleven days. It must exceed the number of revisions that were written after the snapshot was taken.
	DefaultBump = 100_000_000_000
	// maxRevision is the largest that a fencing token has room for.
	maxRevision = 1<<47 - 1
	// spareRevisions are left above a restored store, so that it can go on for years.
	spareRevisions = 1 << 45

	defaultName = "conclave"
	defaultPeer = "http://127.0.0.1:2380"
)

// A RestoreConfig says what is restored, and where to.
type RestoreConfig struct {
	// File is the snapshot.
	File string
	// DataDir is the data directory to make: missing, or empty. The data are not there before they are whole.
	DataDir string
	// Name is the member's name. Default "conclave", as a host's.
	Name string
	// Cluster maps the name of every member of the new cluster, this one included, to its peer URL. Default: this member alone, at
	// http://127.0.0.1:2380.
	Cluster map[string]string
	// Token tells clusters apart that share addresses: members that are left of the old one find no peer in the new one. Every member
	// has the same one. Default: made from the file's digest.
	Token string
	// Bump is added to the revision. Every member has the same one. Default, and least: DefaultBump.
	Bump int64
	// Log receives what upstream's restore reports. Nil: silence.
	Log *slog.Logger
}

// A Restored says what a restore did.
type Restored struct {
	Snapshot Status `json:"snapshot"` // what was there
	Revision int64  `json:"revision"` // of the restored store; every new one, and every new token, is larger
	Ended    int    `json:"ended"`    // leases, which is to say sessions, that were revoked
	Removed  int    `json:"removed"`  // keys that went with them
	Keys     int    `json:"keys"`     // that are there now
}

// Restore makes a data directory out of a snapshot. The package comment says what becomes of revisions and sessions. When it returns
// an error, DataDir is as it was: ErrInvalid names a field, ErrExists says that the directory holds something, ErrDamaged that the
// file is no whole snapshot.
func Restore(cfg RestoreConfig) (Restored, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return Restored{}, err
	}
	status, err := Inspect(cfg.File)
	if err != nil {
		return Restored{}, err
	}
	if status.Revision+cfg.Bump > maxRevision-spareRevisions {
		return Restored{}, fmt.Errorf("%w: Bump: revision %d and %d more leave tokens no room", ErrInvalid, status.Revision, cfg.Bump)
	}
	if cfg.Token == "" {
		if cfg.Token, err = tokenOf(cfg.File); err != nil {
			return Restored{}, err
		}
	}
	r := Restored{Snapshot: status}
	err = cfg.intoPlace(func(work string) error {
		prepared := filepath.Join(work, "prepared.db")
		if err := copyDatabase(cfg.File, prepared); err != nil {
			return err
		}
		ended, err := endSessions(prepared, cfg.zap())
		if err != nil {
			return err
		}
		r.Ended, r.Removed, r.Revision = ended.leases, ended.keys, ended.revision+cfg.Bump
		r.Keys = status.Keys - ended.keys
		return cfg.restore(prepared, filepath.Join(work, "data"))
	})
	return r, err
}

func (c RestoreConfig) withDefaults() RestoreConfig {
	if c.Name == "" {
		c.Name = defaultName
	}
	if len(c.Cluster) == 0 {
		c.Cluster = map[string]string{c.Name: defaultPeer}
	}
	if c.Bump == 0 {
		c.Bump = DefaultBump
	}
	return c
}

func (c RestoreConfig) check() error {
	if c.DataDir == "" {
		return fmt.Errorf("%w: DataDir must name a directory", ErrInvalid)
	}
	if c.Cluster[c.Name] == "" {
		return fmt.Errorf("%w: Cluster has no member %q, which is this one", ErrInvalid, c.Name)
	}
	if c.Bump < DefaultBump {
		return fmt.Errorf("%w: Bump: %d is less than %d, and tokens could repeat", ErrInvalid, c.Bump, int64(DefaultBump))
	}
	files, err := os.ReadDir(c.DataDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("data directory %s is not empty: %w", c.DataDir, ErrExists)
	}
	return nil
}

// intoPlace lets make fill "data" in a directory beside the target, which then takes its place.
func (c RestoreConfig) intoPlace(fill func(work string) error) (err error) {
	target, err := filepath.Abs(c.DataDir)
	if err != nil {
		return err
	}
	parent := filepath.Dir(target)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	work, err := os.MkdirTemp(parent, ".restore-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if err := fill(work); err != nil {
		return err
	}
	if err := ignoreAbsent(os.Remove(target)); err != nil {
		return fmt.Errorf("data directory %s: %w: %w", c.DataDir, ErrExists, err)
	}
	if err := os.Rename(filepath.Join(work, "data"), target); err != nil {
		return err
	}
	return syncDir(parent)
}

// restore is upstream's, with the revision raised.
func (c RestoreConfig) restore(db, dir string) error {
	var members []string
	for _, name := range slices.Sorted(maps.Keys(c.Cluster)) {
		members = append(members, name+"="+c.Cluster[name])
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	err := snapshot.NewV3(c.zap()).Restore(snapshot.RestoreConfig{
		SnapshotPath: db, SkipHashCheck: true, // it was checked, and then changed
		Name: c.Name, PeerURLs: []string{c.Cluster[c.Name]}, InitialCluster: strings.Join(members, ","), InitialClusterToken: c.Token,
		OutputDataDir: dir, RevisionBump: uint64(c.Bump), MarkCompacted: true,
	})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

func (c RestoreConfig) zap() *zap.Logger { return zap.New(logbridge.Zap(c.Log, zapcore.WarnLevel)) }
