package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
)

func (a *app) configGetCommand() *cobra.Command {
	var revision int64
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "Print a value",
		Long: `get prints the value and nothing else, byte for byte; with -o json also its revision,
its author and why it was published. --revision is any revision of etcd: the value that
was in force then, as far as the history goes back.`,
		Example: `  conclave config get api/limits
  conclave config get api/limits --revision 4211
  conclave config get api/limits -o json | jq .author`,
		Args: exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("revision") && revision < 1 {
				return usage("invalid_revision", "", "--revision: %d is less than 1", revision)
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				v, err := versionAt(ctx, c, a.namespace(t), args[0], revision)
				if err != nil {
					return err
				}
				if v.GetProblem() != "" {
					a.note(fmt.Sprintf("config %q: %s; this is the last good value, of revision %d", args[0], v.GetProblem(), v.GetRevision()))
				}
				if a.flags.output.value != outputTable {
					return a.print(configViewOf(v), nil)
				}
				return a.printValue(valueOf(v))
			})
		},
	}
	cmd.Flags().Int64Var(&revision, "revision", 0, "the value that was in force at this revision")
	return cmd
}

func versionAt(ctx context.Context, c configs, namespace, key string, revision int64) (*configv1.Version, error) {
	resp, err := ask(ctx, c, configv1.ConfigServiceClient.Get, &configv1.GetRequest{Namespace: namespace, Key: key, Revision: revision})
	return resp.GetVersion(), err
}

// printValue writes a value as it is; on a terminal the prompt follows on a line of
// its own.
func (a *app) printValue(value []byte) error {
	if isTerminal(a.stdout) && !bytes.HasSuffix(value, []byte("\n")) {
		value = append(slices.Clip(value), '\n')
	}
	_, err := a.stdout.Write(value)
	return err
}

// keyView is a key as `config ls` prints it.
type keyView struct {
	Key      string     `json:"key"`
	Revision int64      `json:"revision"`
	Number   int64      `json:"number"`
	Size     int32      `json:"size"`
	Codec    string     `json:"codec"`
	Author   string     `json:"author"`
	Message  string     `json:"message"`
	Time     *time.Time `json:"time"`
	Deleted  bool       `json:"deleted,omitempty"`
	Problem  string     `json:"problem,omitempty"`
}

func (a *app) configListCommand() *cobra.Command {
	var deleted bool
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List the keys that have a value",
		Long: `ls lists the keys that begin with PREFIX. The columns are key, revision, size in bytes,
author, when, and why.`,
		Example: `  conclave config ls
  conclave config ls api/
  conclave config ls -o json | jq -r '.[].key'`,
		Args: atMostOne("PREFIX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withConfigs(cmd.Context(), answering, func(ctx context.Context, t target, c configs) error {
				req := &configv1.ListRequest{Namespace: a.namespace(t), Prefix: strings.Join(args, ""), PageSize: 1000, Deleted: deleted}
				views, rows := []keyView{}, [][]string{}
				for {
					resp, err := ask(ctx, c, configv1.ConfigServiceClient.List, req)
					if err != nil {
						return err
					}
					for _, v := range resp.GetVersions() {
						views = append(views, keyView{Key: v.GetKey(), Revision: v.GetRevision(), Number: v.GetNumber(), Size: v.GetSize(), Codec: v.GetCodec(),
							Author: v.GetAuthor(), Message: v.GetMessage(), Time: timeOf(v.GetTime()), Deleted: v.GetDeleted(), Problem: v.GetProblem()})
						rows = append(rows, a.keyRow(v))
					}
					if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
						return a.printList(views, []string{"KEY", "REVISION", "SIZE", "AUTHOR", "WHEN", "MESSAGE"}, rows)
					}
				}
			})
		},
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "also keys that were deleted by a tombstone")
	return cmd
}

func (a *app) keyRow(v *configv1.Version) []string {
	message := v.GetMessage()
	switch {
	case v.GetProblem() != "":
		message = "(" + v.GetProblem() + ")"
	case v.GetDeleted():
		message = strings.TrimSpace("(deleted) " + message)
	}
	return []string{clean(v.GetKey()), strconv.FormatInt(v.GetRevision(), 10), strconv.Itoa(int(v.GetSize())), clean(v.GetAuthor()),
		a.when(v.GetTime()), clean(message)}
}

// longestInTable is how much of a value a table shows.
const longestInTable = 60

func (a *app) configHistoryCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "history KEY",
		Short: "Show the versions of a key, newest first",
		Long: `history shows the versions of KEY that are kept, the last 50, newest first. The columns
are revision, author, when, why, and the beginning of the value; with -o json all of it.`,
		Example: `  conclave config history api/limits
  conclave config history api/limits -o json | jq -r '.[] | [.revision, .author, .message] | @tsv'`,
		Args: exactly(1, "KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return usage("invalid_limit", "", "--limit: %d is negative", limit)
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				req := &configv1.HistoryRequest{Namespace: a.namespace(t), Key: args[0]}
				views, rows := []configView{}, [][]string{}
				for {
					resp, err := ask(ctx, c, configv1.ConfigServiceClient.History, req)
					if err != nil {
						return err
					}
					for _, v := range resp.GetVersions() {
						views = append(views, configViewOf(v))
						rows = append(rows, []string{strconv.FormatInt(v.GetRevision(), 10), clean(v.GetAuthor()), a.when(v.GetTime()), clean(v.GetMessage()),
							inBrief(v, longestInTable)})
					}
					full := limit > 0 && len(views) >= limit
					if full {
						views, rows = views[:limit], rows[:limit]
					}
					if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" || full {
						return a.printList(views, []string{"REVISION", "AUTHOR", "WHEN", "MESSAGE", "VALUE"}, rows)
					}
				}
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many; 0: all that are kept")
	return cmd
}

// diffView is a difference as `config diff -o json` prints it.
type diffView struct {
	Key  string     `json:"key"`
	From configView `json:"from"`
	To   configView `json:"to"`
	Diff string     `json:"diff"`
}

func (a *app) configDiffCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "diff KEY R1 [R2]",
		Short: "Show what changed between two revisions",
		Long: `diff shows the lines that differ between the values that were in force at two revisions,
or at R1 and now, as a unified diff. JSON is laid out first, a member a line. Equal
values print nothing.`,
		Example: `  conclave config diff api/limits 4211 4250
  conclave config diff api/limits 4211`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 3 {
				return nil
			}
			return exactly(2, "KEY R1")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var revisions [2]int64
			for i, arg := range args[1:] {
				n, err := strconv.ParseInt(arg, 10, 64)
				if err != nil || n < 1 {
					return usage("invalid_revision", "see which there are with: conclave config history "+quoted(args[0]), "%q is not a revision", arg)
				}
				revisions[i] = n
			}
			return a.withKey(cmd.Context(), args[0], answering, func(ctx context.Context, t target, c configs) error {
				var vs [2]*configv1.Version
				for i, rev := range revisions {
					var err error
					if vs[i], err = versionAt(ctx, c, a.namespace(t), args[0], rev); err != nil {
						return err
					}
				}
				return a.printDiff(vs[0], vs[1])
			})
		},
	}
}

func (a *app) printDiff(from, to *configv1.Version) error {
	label := func(v *configv1.Version) string { return fmt.Sprintf("%s@%d", clean(v.GetKey()), v.GetRevision()) }
	text := diff.Diff(label(from), laidOut(valueOf(from)), label(to), laidOut(valueOf(to)))
	// The first line names a program that is not ours.
	if _, rest, ok := bytes.Cut(text, []byte("\n")); ok {
		text = rest
	}
	if a.flags.output.value != outputTable {
		return a.print(diffView{Key: from.GetKey(), From: configViewOf(from), To: configViewOf(to), Diff: string(text)}, nil)
	}
	for line := range bytes.Lines(text) {
		if _, err := fmt.Fprintln(a.stdout, clean(strings.TrimSuffix(string(line), "\n"))); err != nil {
			return err
		}
	}
	return nil
}

// laidOut is JSON with a member a line; anything else as it is.
func laidOut(value []byte) []byte {
	var out bytes.Buffer
	if json.Indent(&out, value, "", "  ") != nil {
		return value
	}
	return append(bytes.TrimRight(out.Bytes(), "\n"), '\n')
}
