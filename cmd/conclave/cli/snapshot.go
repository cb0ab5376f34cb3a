package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/snapshot"
	"github.com/conclavehq/conclave/core/snapshot/schedule"
	"github.com/conclavehq/conclave/internal/tlsfiles"
)

func (a *app) snapshotCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "snapshot",
		Short: "Save the state of etcd, look into it, try it, restore it",
		Example: `  conclave snapshot save backup.db
  conclave snapshot drill backup.db                                # would it do?
  conclave snapshot restore backup.db --data-dir /var/lib/conclave
  conclave snapshot ls /var/backups/conclave                       # what a host has put there`,
	})
	cmd.AddCommand(a.snapshotSaveCommand(), a.snapshotStatusCommand(), a.snapshotDrillCommand(), a.snapshotRestoreCommand(), a.snapshotListCommand())
	return cmd
}

type snapshotSaveFlags struct {
	overwrite          bool
	user, passwordFile string
}

func (a *app) snapshotSaveCommand() *cobra.Command {
	var f snapshotSaveFlags
	cmd := &cobra.Command{
		Use:   "save FILE",
		Short: "Save the state of etcd to a file",
		Long: `save asks etcd itself for everything that it holds: of the members of --endpoints,
CONCLAVE_ENDPOINTS, the context or a running conclave dev, whichever answers. FILE
appears once it is whole, has been checked, and is on the disk. It holds every secret
of the store: its mode is 0600.

A host takes snapshots by itself if its configuration says: snapshots: {to: …}.`,
		Example: `  conclave snapshot save backup.db
  conclave snapshot save backup.db --overwrite
  conclave snapshot save backup.db --endpoints https://10.0.0.1:2379 --cacert ca.pem --user root --password-file secret`,
		Args: exactly(1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.snapshotSave(cmd.Context(), args[0], f) },
	}
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "replace FILE if it is there")
	cmd.Flags().StringVar(&f.user, "user", "", "etcd's user, with the role root, if its authentication is on")
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file that holds the user's password")
	return cmd
}

func (a *app) snapshotSave(ctx context.Context, file string, f snapshotSaveFlags) error {
	t, err := a.etcdItself("a snapshot")
	if err != nil {
		return err
	}
	as, err := readLogin(f.user, f.passwordFile)
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx, 0)
	defer cancel()
	c, err := a.dialAs(ctx, t, as)
	if err != nil {
		return explain(ctx, t, err)
	}
	defer func() { _ = c.Close() }()
	show := a.progress(sizeOf(ctx, c, t))
	var status snapshot.Status
	_, err = snapshot.SaveFile(ctx, c, file, snapshot.SaveOptions{Overwrite: f.overwrite, Progress: show.at, Check: func(whole string) (err error) {
		status, err = snapshot.Inspect(whole)
		return err
	}})
	show.end()
	if errors.Is(err, snapshot.ErrExists) {
		return &Error{Exit: ExitNotAcquired, Code: "already_exists", Reason: "conflict", Message: file + " exists already", Hint: "choose another name, or say --overwrite", cause: err}
	}
	if err != nil {
		return explain(ctx, t, err)
	}
	return a.printSnapshot(file, status)
}

// sizeOf is about how much there is to save; 0 if nobody says.
func sizeOf(ctx context.Context, c *clientv3.Client, t target) int64 {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	st, err := c.Status(ctx, t.endpoints[0])
	if err != nil {
		return 0
	}
	return st.DbSize
}

// etcdItself is the target of what no host's API can do.
func (a *app) etcdItself(what string) (target, error) {
	if len(a.flags.api) > 0 {
		return target{}, usage("invalid_target", "name etcd with --endpoints", "%s is etcd's own: --api cannot serve it", what)
	}
	if len(a.flags.endpoints) > 0 {
		return target{endpoints: a.flags.endpoints, from: "--endpoints"}, checkEndpoints("--endpoints", a.flags.endpoints)
	}
	return a.etcdTarget()
}

// readLogin is a user and the password in a file, or behind a colon, as etcdctl has it.
func readLogin(user, passwordFile string) (login, error) {
	name, password, given := strings.Cut(user, ":")
	switch {
	case user == "" && passwordFile == "":
		return login{}, nil
	case name == "":
		return login{}, usage("invalid_user", "", "--user is missing: the password is whose?")
	case given == (passwordFile != ""):
		return login{}, usage("invalid_password-file", "such as: --user root --password-file secret", "a user needs a password, in one place")
	case given:
		return login{name, password}, nil
	}
	// A pipe, such as a shell's <(…), is its owner's.
	if err := tlsfiles.Private(passwordFile); err != nil {
		return login{}, usage("invalid_password-file", "", "--password-file: %v", err)
	}
	b, err := os.ReadFile(passwordFile)
	if err != nil {
		return login{}, usage("invalid_password-file", "", "--password-file: %v", err)
	}
	return login{name, strings.TrimRight(string(b), "\r\n")}, nil
}

// snapshotDoc is what the commands print of a snapshot.
type snapshotDoc struct {
	File string `json:"file"`
	snapshot.Status
}

func (a *app) printSnapshot(file string, s snapshot.Status) error {
	version := s.Version
	if version == "" {
		version = "unknown"
	}
	return a.print(snapshotDoc{file, s}, [][]string{
		{"file", file},
		{"size", bytesText(s.Bytes)},
		{"revision", strconv.FormatInt(s.Revision, 10)},
		{"keys", fmt.Sprintf("%d, of them %d on %d leases", s.Keys, s.Leased, s.Leases)},
		{"storage version", version},
	})
}

func (a *app) snapshotStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status FILE",
		Short: "Check a snapshot, and show what it holds",
		Long: `status reads the whole file, checks its digest and every page of its database, and
shows what it holds. A file that was cut short or altered is an error: exit code 1.`,
		Example: `  conclave snapshot status backup.db
  conclave snapshot status backup.db -o json | jq .revision`,
		Args: exactly(1, "FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			status, err := snapshot.Inspect(args[0])
			if err != nil {
				return snapshotError(err)
			}
			return a.printSnapshot(args[0], status)
		},
	}
}

// snapshotError says what is wrong with a file or a directory.
func snapshotError(err error) error {
	e := &Error{Exit: ExitFailed, Code: "failed_precondition", Reason: "failed", Message: oneLine(err), cause: err}
	switch {
	case errors.Is(err, snapshot.ErrDamaged):
		e.Code, e.Reason, e.Hint = "data_loss", "damaged", "take another snapshot: this one cannot be restored"
	case errors.Is(err, os.ErrNotExist):
		e.Exit, e.Code, e.Reason = ExitNotFound, "not_found", "not_found"
	case errors.Is(err, snapshot.ErrExists):
		e.Exit, e.Code, e.Reason, e.Hint = ExitNotAcquired, "already_exists", "conflict", "move it away, or restore into another directory"
	case errors.Is(err, snapshot.ErrInvalid), errors.Is(err, schedule.ErrInvalid):
		return usage("invalid_argument", "", "%s", oneLine(err))
	}
	return e
}

func (a *app) snapshotListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls PLACE",
		Short: "List the snapshots that hosts have put into a directory or bucket",
		Long: `ls lists the snapshots of a place that a host's configuration names at snapshots.to,
the newest first: time, size, revision, file.`,
		Example: `  conclave snapshot ls /var/backups/conclave
  conclave snapshot ls file:///mnt/backups -o json | jq -r '.[0].name'`,
		Args: exactly(1, "PLACE"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.snapshotList(cmd.Context(), args[0]) },
	}
}

func (a *app) snapshotList(ctx context.Context, to string) error {
	if !schedule.IsBucket(to) {
		// Opening it would make it.
		if _, err := os.Stat(to); err != nil {
			return snapshotError(err)
		}
	}
	ctx, cancel := a.bounded(ctx, 0)
	defer cancel()
	place, err := schedule.OpenPlace(ctx, to)
	if err != nil {
		return usage("invalid_place", "a directory, or file://…: other buckets need a program that links their driver, see docs/operations.md", "%s", oneLine(err))
	}
	defer func() { _ = place.Close() }()
	files, err := place.List(ctx)
	if err != nil {
		return snapshotError(err)
	}
	rows := make([][]string, 0, len(files))
	for _, f := range files {
		name := f.Name
		if !schedule.IsBucket(to) {
			name = filepath.Join(to, name)
		}
		rows = append(rows, []string{f.Time.Format(time.RFC3339), bytesText(f.Bytes), strconv.FormatInt(f.Revision, 10), name})
	}
	if files == nil {
		files = []schedule.File{}
	}
	return a.printList(files, []string{"TIME", "SIZE", "REVISION", "FILE"}, rows)
}
