package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/conclavehq/conclave/cmd/conclave/internal/importer"
)

// importFlags are those of every command that brings keys from elsewhere.
type importFlags struct {
	only, skip, rename []string
	dryRun, overwrite  bool
	user, passwordFile string
}

func (f *importFlags) register(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.only, "only", nil, "take only keys that begin so; repeatable")
	fs.StringArrayVar(&f.skip, "skip", nil, "take no keys that begin so; repeatable")
	fs.StringArrayVar(&f.rename, "map", nil, "OLD=NEW: keys that begin with OLD begin with NEW; repeatable, the longest counts")
	fs.BoolVar(&f.dryRun, "dry-run", false, "list what would be written, and write nothing")
	fs.BoolVar(&f.overwrite, "overwrite", false, "write also over keys that are there with another value")
	fs.StringVar(&f.user, "user", "", "etcd's user, if its authentication is on")
	fs.StringVar(&f.passwordFile, "password-file", "", "file that holds the user's password")
}

func (f *importFlags) rules() (importer.Rules, error) {
	r := importer.Rules{Only: f.only, Skip: f.skip}
	for _, m := range f.rename {
		from, to, ok := strings.Cut(m, "=")
		if !ok {
			return r, usage("invalid_map", "such as: --map /app/=shop/app/", "--map: %q is not OLD=NEW", m)
		}
		r.Map = append(r.Map, importer.Rule{From: from, To: to})
	}
	return r, nil
}

// howImported is what the commands have in common, for their help texts.
const howImported = `
The keys are written into etcd as they are, or with another beginning: --map OLD=NEW.
Beginnings count letter by letter: app/ is a folder, app also begins apple. What is there
with another value stays, is listed, and makes the exit code 5, unless --overwrite is
given; what is there with the same value is passed over. So the command can be run again.
A --dry-run asks nothing of etcd.`

// bring plans, and writes what find found.
func (a *app) bring(ctx context.Context, f importFlags, find func(ctx context.Context) (importer.Found, error)) error {
	rules, err := f.rules()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx, 0)
	defer cancel()
	found, err := find(ctx)
	if err != nil {
		return sourceError(ctx, err)
	}
	plan, err := importer.Plan(found, rules, time.Now())
	if err != nil {
		return usage("invalid_keys", "see --map, --only and --skip", "%s", oneLine(err))
	}
	for _, n := range plan.Notes {
		a.note(n)
	}
	if f.dryRun {
		return a.printPlan(plan.Items)
	}
	return a.write(ctx, f, plan.Items)
}

// sourceError says why a source could not be read.
func sourceError(ctx context.Context, err error) error {
	if e, ok := asError(err); ok {
		return e
	}
	e := &Error{Exit: ExitFailed, Code: "failed_precondition", Reason: "failed", Message: oneLine(err), cause: err}
	switch {
	case errors.Is(context.Cause(ctx), errTimedOut):
		e.Exit, e.Code, e.Reason = ExitTimeout, "deadline_exceeded", "timeout"
	case errors.Is(err, os.ErrNotExist):
		e.Exit, e.Code, e.Reason = ExitNotFound, "not_found", "not_found"
	case errors.Is(err, importer.ErrRuns):
		e.Reason, e.Hint = "data_dir_in_use", "or read a copy of the directory"
	}
	return e
}

// plannedDoc is a key as a dry run prints it.
type plannedDoc struct {
	Key     string     `json:"key"`
	From    string     `json:"from"`
	Bytes   int        `json:"bytes"`
	Expires *time.Time `json:"expires,omitempty"`
}

func (a *app) printPlan(items []importer.Item) error {
	docs, rows := make([]plannedDoc, 0, len(items)), make([][]string, 0, len(items))
	for _, i := range items {
		d, row := plannedDoc{Key: i.Key, From: i.From, Bytes: len(i.Value)}, []string{i.Key, i.From, strconv.Itoa(len(i.Value)), ""}
		if !i.Expires.IsZero() {
			d.Expires, row[3] = &i.Expires, i.Expires.UTC().Format(time.RFC3339)
		}
		docs, rows = append(docs, d), append(rows, row)
	}
	a.note(fmt.Sprintf("%d keys would be written", len(items)))
	return a.printList(docs, []string{"KEY", "FROM", "BYTES", "EXPIRES"}, rows)
}

// write writes the items and prints what became of them.
func (a *app) write(ctx context.Context, f importFlags, items []importer.Item) error {
	t, err := a.etcdItself("the import")
	if err != nil {
		return err
	}
	as, err := readLogin(f.user, f.passwordFile)
	if err != nil {
		return err
	}
	c, err := a.dialAs(ctx, t, as)
	if err != nil {
		return explain(ctx, t, err)
	}
	defer func() { _ = c.Close() }()
	r, err := importer.Write(ctx, c, items, f.overwrite)
	if err != nil {
		a.note(fmt.Sprintf("%d keys have been written; the same command goes on", r.Written))
		return explain(ctx, t, err)
	}
	if err := a.print(r, [][]string{
		{"written", fmt.Sprintf("%d, %s", r.Written, bytesText(r.Bytes))},
		{"of them expire", strconv.Itoa(r.Leased)},
		{"were there already", strconv.Itoa(r.Same)},
		{"kept another value", strconv.Itoa(len(r.Conflicts))},
	}); err != nil {
		return err
	}
	if n := len(r.Conflicts); n > 0 {
		return &Error{Exit: ExitNotAcquired, Code: "aborted", Reason: "conflict", Hint: "look at them, then --overwrite, or --skip them",
			Message: fmt.Sprintf("%d keys are there with another value and were kept: %s", n, someOf(r.Conflicts))}
	}
	return nil
}

// someOf is a list for one line.
func someOf(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + " …"
	}
	return strings.Join(names, ", ")
}

func (a *app) importCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "import",
		Short: "Bring keys and values from Consul or ZooKeeper",
		Example: `  consul kv export | conclave import consul --file - --map app/=/app/
  conclave import consul --addr http://127.0.0.1:8500 --dry-run
  conclave import zookeeper --servers zk1:2181,zk2:2181 --root /app`,
	})
	cmd.AddCommand(a.importConsulCommand(), a.importZooKeeperCommand())
	return cmd
}

func (a *app) importConsulCommand() *cobra.Command {
	var (
		f                                         importFlags
		file, addr, tokenFile, datacenter, prefix string
	)
	cmd := &cobra.Command{
		Use:   "consul (--file FILE | --addr URL)",
		Short: "Bring Consul's keys and values",
		Long: `consul brings keys from what consul kv export printed, or from an agent's HTTP API.
Flags, sessions and access lists have no counterpart; how many there are is told.
` + howImported,
		Example: `  consul kv export > consul.json; conclave import consul --file consul.json
  conclave import consul --addr http://127.0.0.1:8500 --token-file token --only app/ --map app/=/app/`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (file == "") == (addr == "") {
				return usage("invalid_source", "such as: --file consul.json", "give one of --file and --addr")
			}
			return a.bring(cmd.Context(), f, func(ctx context.Context) (importer.Found, error) {
				if file != "" {
					return a.consulFile(file)
				}
				return a.consulAPI(ctx, addr, tokenFile, datacenter, prefix)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&file, "file", "", "what consul kv export printed; - for standard input")
	fs.StringVar(&addr, "addr", "", "URL of a Consul agent")
	fs.StringVar(&tokenFile, "token-file", "", "file that holds the token for --addr")
	fs.StringVar(&datacenter, "datacenter", "", "Consul's datacenter, for --addr")
	fs.StringVar(&prefix, "prefix", "", "ask only for keys that begin so, for --addr")
	f.register(fs)
	return cmd
}

func (a *app) consulFile(file string) (found importer.Found, err error) {
	if file == "-" {
		return importer.ParseConsul(a.stdin)
	}
	in, err := os.Open(file)
	if err != nil {
		return found, err
	}
	defer func() { _ = in.Close() }()
	found, err = importer.ParseConsul(in)
	if err != nil {
		err = fmt.Errorf("%s: %w", file, err)
	}
	return found, err
}

func (a *app) importZooKeeperCommand() *cobra.Command {
	var (
		f        importFlags
		z        importer.ZooKeeper
		authFile string
	)
	cmd := &cobra.Command{
		Use:   "zookeeper --servers LIST",
		Short: "Bring ZooKeeper's nodes and their data",
		Long: `zookeeper reads the nodes of a ZooKeeper that serves, one after the other: stop those who
write, or run it again. A node's path is its key. Ephemeral nodes stay behind, for they
stand for sessions; so do nodes that only have children, unless --directories is given.
Access lists have no counterpart; how many there are is told.
` + howImported,
		Example: `  conclave import zookeeper --servers 127.0.0.1:2181 --root /app --dry-run
  conclave import zookeeper --servers zk1:2181,zk2:2181 --skip /kafka/ --map /=/zk/`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(z.Servers) == 0 || slices.Contains(z.Servers, "") {
				return usage("invalid_servers", "such as: --servers 127.0.0.1:2181", "--servers is missing")
			}
			return a.bring(cmd.Context(), f, func(ctx context.Context) (importer.Found, error) {
				auth, err := secretIn("auth-file", authFile)
				if err != nil {
					return importer.Found{}, err
				}
				z.Auth = auth
				return importer.FromZooKeeper(ctx, z)
			})
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&z.Servers, "servers", nil, "host:port of ZooKeeper's servers, comma-separated")
	fs.StringVar(&z.Root, "root", "/", "the node to begin at")
	fs.BoolVar(&z.Directories, "directories", false, "take nodes that have children and no data as keys without a value")
	fs.StringVar(&authFile, "auth-file", "", "file that holds user:password for ZooKeeper's digest scheme")
	f.register(fs)
	return cmd
}

// secretIn is the first line of the file that a flag names; "" without one.
func secretIn(flag, file string) (string, error) {
	if file == "" {
		return "", nil
	}
	f, err := os.Open(file)
	if err != nil {
		return "", usage("invalid_"+flag, "", "--%s: %v", flag, err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.LimitReader(f, 4<<10))
	if err != nil {
		return "", usage("invalid_"+flag, "", "--%s: %v", flag, err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimRight(line, "\r"), nil
}
