package cli

import (
	"context"
	"fmt"
	"os/signal"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/snapshot"
)

type snapshotRestoreFlags struct {
	config, dataDir, name, token string
	cluster                      map[string]string
	bump                         int64
}

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var f snapshotRestoreFlags
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a data directory out of a snapshot",
		Long: fmt.Sprintf(`restore makes a new data directory, for a host or for etcd itself. The directory must be
missing or empty; it appears once it is whole.

No fencing token is issued twice: the revision is raised by %d, and everything
before is marked as compacted, so that watchers learn that they missed something.
Sessions end: leases are revoked and their keys removed, so nobody holds a lock, leads,
waits or is registered. All else is there: keys, queue items, configuration and its
versions, history.

For a cluster run it on each machine, with the same FILE, the same --initial-cluster and
that machine's --name; then start the members together. --config takes the name, the
data directory and the cluster from a host's configuration.`, int64(snapshot.DefaultBump)),
		Example: `  conclave snapshot restore backup.db --data-dir /var/lib/conclave
  conclave snapshot restore backup.db --config /etc/conclave.yaml
  conclave snapshot restore backup.db --data-dir /var/lib/conclave --name a \
    --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380`,
		Args: exactly(1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return a.snapshotRestore(args[0], f) },
	}
	fs := cmd.Flags()
	fs.StringVar(&f.dataDir, "data-dir", "", "directory to make")
	fs.StringVar(&f.config, "config", "", "configuration file of the host that will use it; flags count before it")
	fs.StringVar(&f.name, "name", "", "the member's name (default \""+host.DefaultName+"\")")
	fs.StringToStringVar(&f.cluster, "initial-cluster", nil, "every member's name and peer URL: a=http://…,b=http://… (default: this member alone)")
	fs.StringVar(&f.token, "initial-cluster-token", "", "tells the new cluster from others; the same everywhere (default: made from FILE)")
	fs.Int64Var(&f.bump, "bump-revision", snapshot.DefaultBump, "how far to raise the revision; the same everywhere")
	return cmd
}

func (a *app) snapshotRestore(file string, f snapshotRestoreFlags) error {
	cfg := snapshot.RestoreConfig{File: file, DataDir: f.dataDir, Name: f.name, Cluster: f.cluster, Token: f.token, Bump: f.bump}
	if f.config != "" {
		from, err := loadConfig(f.config)
		if err != nil {
			return err
		}
		cfg.DataDir, cfg.Name = firstOf(cfg.DataDir, from.DataDir), firstOf(cfg.Name, from.Name)
		if len(cfg.Cluster) == 0 {
			cfg.Cluster = from.Etcd.InitialCluster
		}
	}
	if cfg.DataDir == "" {
		return usage("invalid_data-dir", "such as: --data-dir /var/lib/conclave", "--data-dir is missing: what is to be made?")
	}
	r, err := snapshot.Restore(cfg)
	if err != nil {
		return snapshotError(err)
	}
	a.note(fmt.Sprintf("revisions and tokens go on above %d: none is issued twice", r.Revision))
	a.note(fmt.Sprintf("%d sessions ended, and %d keys of theirs are gone; the other %d keys are there", r.Ended, r.Removed, r.Keys))
	return a.printRestored(cfg.DataDir, r)
}

// restoredDoc is what the commands print of a restore.
type restoredDoc struct {
	DataDir string `json:"dataDir,omitempty"`
	snapshot.Restored
}

func (a *app) printRestored(dir string, r snapshot.Restored) error {
	rows := [][]string{
		{"snapshot's revision", strconv.FormatInt(r.Snapshot.Revision, 10)},
		{"revision now", strconv.FormatInt(r.Revision, 10)},
		{"keys", strconv.Itoa(r.Keys)},
		{"sessions ended", fmt.Sprintf("%d, with %d keys", r.Ended, r.Removed)},
	}
	if dir != "" {
		rows = append([][]string{{"data directory", dir}}, rows...)
	}
	return a.print(restoredDoc{dir, r}, rows)
}

func (a *app) snapshotDrillCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "drill FILE",
		Short: "Restore a snapshot into a scratch member, and compare",
		Long: `drill does what a restore would do, into a member that lives only for this command, on
loopback: it reads every key back, compares value and revisions with FILE, and writes once
to see that revisions go on where they must. Exit code 0 says that FILE would do; 1, that
it would not. Nothing is left behind, and nothing else is touched.

It needs the space of the database twice, in the directory for temporary files.`,
		Example: `  conclave snapshot drill backup.db
  conclave snapshot drill "$(conclave snapshot ls /var/backups/conclave | head -1 | cut -f4)"`,
		Args: exactly(1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.snapshotDrill(cmd.Context(), args[0], dir) },
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory for the scratch member (default: the system's for temporary files)")
	return cmd
}

func (a *app) snapshotDrill(ctx context.Context, file, dir string) error {
	ctx, restoreSignals := signal.NotifyContext(ctx, ending()...)
	defer restoreSignals()
	ctx, cancel := a.bounded(ctx, 0)
	defer cancel()
	r, err := snapshot.Drill(ctx, file, dir, nil)
	if err != nil {
		return snapshotError(err)
	}
	a.note("restored, and everything was as it should be")
	return a.printRestored("", r)
}
