package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// contextView is how a context is printed.
type contextView struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	*contextFile
}

func (v contextView) row() []string {
	mark := ""
	if v.Current {
		mark = "*"
	}
	target := strings.Join(v.API, ",")
	if target == "" {
		target = "etcd " + strings.Join(v.Endpoints, ",")
	}
	return []string{mark, v.Name, target, v.Namespace}
}

func (a *app) contextCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "context",
		Short: "Name clusters, and choose the one that commands use",
		Long: `A context is a cluster and how you reach it, under a name. The one in use counts
when neither a flag nor the environment names a host API or etcd. CONCLAVE_CONTEXT
chooses one for a shell.

Contexts are files of yours in the configuration directory. They name the file of a
token, and hold no secret themselves. What a context says, its certificates and
token too, goes to the cluster that it names and to no other.`,
		Example: `  conclave context add prod --api https://a:2378,https://b:2378 --cacert ca.pem --token-file ~/.prod-token
  conclave context use prod
  CONCLAVE_CONTEXT=staging conclave lock ls`,
	})
	cmd.AddCommand(a.contextAddCommand(), a.contextUseCommand(), a.contextListCommand(), a.contextShowCommand(), a.contextRemoveCommand())
	return cmd
}

func (a *app) contextAddCommand() *cobra.Command {
	var tokenFile string
	var replace bool
	cmd := &cobra.Command{
		Use:   "add NAME (--api URLS | --endpoints LIST) [flags]",
		Short: "Add a context",
		Example: `  conclave context add prod --api https://a:2378,https://b:2378 --cacert ca.pem --token-file ~/.prod-token
  conclave context add lab --endpoints http://10.0.0.7:2379 --namespace lab`,
		Args: exactly(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error { return a.contextAdd(args[0], tokenFile, replace) },
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "file that holds the token for the host API, read at every use")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace a context of this name")
	return cmd
}

func (a *app) contextAdd(name, tokenFile string, replace bool) error {
	if a.flags.authToken != "" {
		return usage("invalid_auth-token", "write it to a file and give --token-file", "--auth-token: a context holds no secret")
	}
	path, err := a.contextPath(name)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil && !replace {
		return &Error{Exit: ExitNotAcquired, Code: "aborted", Reason: "conflict", Hint: "replace it with --replace",
			Message: fmt.Sprintf("context %q exists", name)}
	}
	c := &contextFile{name: name, API: a.flags.api, Endpoints: a.flags.endpoints, Namespace: a.flags.namespace}
	for _, f := range []struct {
		from string
		to   *string
	}{{tokenFile, &c.TokenFile}, {a.flags.cacert, &c.CACert}, {a.flags.cert, &c.Cert}, {a.flags.key, &c.Key}} {
		if f.from == "" {
			continue
		}
		// A context is used from every directory.
		if *f.to, err = filepath.Abs(f.from); err != nil {
			return err
		}
	}
	if err := c.check(); err != nil {
		return contextInvalid(err)
	}
	if err := a.writeContext(c); err != nil {
		return fmt.Errorf("context %q: %w", name, err)
	}
	if current, _ := a.currentName(); current != name {
		a.note(fmt.Sprintf("added; to use it: conclave context use %s", name))
	}
	return nil
}

// contextInvalid keeps the hint of an error that has one.
func contextInvalid(err error) error {
	if e, ok := asError(err); ok {
		return e
	}
	return usage("invalid_context", "such as: conclave context add prod --api https://a:2378", "context: %v", err)
}

func (a *app) contextUseCommand() *cobra.Command {
	var none bool
	cmd := &cobra.Command{
		Use:     "use NAME",
		Short:   "Choose the context that commands use",
		Example: "  conclave context use prod\n  conclave context use --none     # a running conclave dev, or the default address",
		Args: func(cmd *cobra.Command, args []string) error {
			if none {
				return exactly(0, "")(cmd, args)
			}
			return exactly(1, "NAME")(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			name := ""
			if !none {
				if _, err := a.readContext(args[0]); err != nil {
					return err
				}
				name = args[0]
			}
			if err := a.setCurrent(name); err != nil {
				return err
			}
			if env := a.env["CONCLAVE_CONTEXT"]; env != "" && env != name {
				a.note(fmt.Sprintf("in this shell CONCLAVE_CONTEXT=%s counts before it", env))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&none, "none", false, "use none")
	return cmd
}

func (a *app) contextListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the contexts; * marks the one in use",
		Example: "  conclave context ls\n  conclave context ls -o json",
		Args:    exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			names, err := a.contextNames()
			if err != nil {
				return err
			}
			current, _ := a.currentName()
			views, rows := []contextView{}, [][]string{}
			for _, name := range names {
				c, err := a.readContext(name)
				if err != nil {
					// One that cannot be read must not hide the others.
					a.note(oneLine(err))
					continue
				}
				v := contextView{name, name == current, c}
				views, rows = append(views, v), append(rows, v.row())
			}
			return a.printList(views, []string{"", "NAME", "TARGET", "NAMESPACE"}, rows)
		},
	}
}

func (a *app) contextShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "show [NAME]",
		Short:   "Show a context, without a name the one in use",
		Example: "  conclave context show\n  conclave context show prod -o yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			current, _ := a.currentName()
			name := current
			if len(args) > 0 {
				name = args[0]
			}
			if name == "" {
				return &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found", Message: "no context is in use",
					Hint: "choose one with: conclave context use NAME"}
			}
			c, err := a.readContext(name)
			if err != nil {
				return err
			}
			return a.print(contextView{name, name == current, c}, c.rows(name == current))
		},
	}
}

func (c *contextFile) rows(current bool) [][]string {
	rows := [][]string{{"name", c.name}}
	for _, r := range [][]string{
		{"api", strings.Join(c.API, ",")}, {"endpoints", strings.Join(c.Endpoints, ",")}, {"namespace", c.Namespace},
		{"token file", c.TokenFile}, {"cacert", c.CACert}, {"cert", c.Cert}, {"key", c.Key},
	} {
		if r[1] != "" {
			rows = append(rows, r)
		}
	}
	if current {
		rows = append(rows, []string{"in use", "yes"})
	}
	return rows
}

func (a *app) contextRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME",
		Short:   "Remove a context",
		Example: "  conclave context rm prod",
		Args:    exactly(1, "NAME"),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.contextPath(args[0])
			if err != nil {
				return err
			}
			if err := os.Remove(path); errors.Is(err, fs.ErrNotExist) {
				_, err := a.readContext(args[0]) // which says what else there is
				return err
			} else if err != nil {
				return err
			}
			if current, from := a.currentName(); current == args[0] && from != "CONCLAVE_CONTEXT" {
				return a.setCurrent("")
			}
			return nil
		},
	}
}
