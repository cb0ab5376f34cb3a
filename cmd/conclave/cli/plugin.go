package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
)

// adminSocket is the administrator's socket in a host's data directory.
const adminSocket = "conclave.sock"

// pluginView is a plugin as `plugin ls` prints it.
type pluginView struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	State    string   `json:"state"`
	PID      int64    `json:"pid"`
	Restarts int64    `json:"restarts"`
	Summary  string   `json:"summary"`
	Services []string `json:"services"`
	SHA256   string   `json:"sha256,omitempty"`
	KeyID    string   `json:"keyId,omitempty"`
	Unpinned bool     `json:"unpinned,omitempty"`
	Message  string   `json:"message,omitempty"`
	Host     string   `json:"host,omitempty"` // where several were asked
}

func pluginOf(p *pluginv1.Plugin) pluginView {
	return pluginView{Name: p.GetName(), Version: p.GetVersion(), State: word(p.GetState().String(), "PLUGIN_STATE_"), PID: p.GetPid(), Restarts: p.GetRestarts(),
		Summary: p.GetSummary(), Services: append([]string{}, p.GetServices()...), SHA256: p.GetSha256(), KeyID: p.GetKeyId(), Unpinned: p.GetUnpinned(), Message: p.GetMessage()}
}

var pluginHeader = []string{"NAME", "VERSION", "STATE", "PID", "RESTARTS", "MESSAGE"}

func (v pluginView) row() []string {
	pid := ""
	if v.PID > 0 {
		pid = strconv.FormatInt(v.PID, 10)
	}
	message := v.Message
	if v.Unpinned {
		message = strings.TrimSuffix("not pinned: "+message, ": ")
	}
	row := []string{clean(v.Name), clean(v.Version), v.State, pid, strconv.FormatInt(v.Restarts, 10), clean(message)}
	if v.Host != "" {
		row = append(row, v.Host)
	}
	return row
}

func (a *app) pluginCommand() *cobra.Command {
	var dataDir string
	cmd := group(&cobra.Command{
		Use:   "plugin",
		Short: "Recipes of third parties: add them to a host, and look after them",
		Long: `A plugin is a recipe that runs in a process of its own. A host runs the plugins that
were added to it, with exactly the bytes that were added, and refuses anything else.

What is done to plugins is done to one host, by its administrator: over the socket in
the host's data directory, which --data-dir names, or over the API of a conclave dev.`,
		Example: `  conclave plugin add ./ratelimit                               # to the conclave dev of yours
  conclave plugin add ./ratelimit --data-dir /var/lib/conclave  # to a host of this machine
  conclave plugin ls
  conclave plugin upgrade ratelimit ./ratelimit-1.3.0
  conclave plugin logs ratelimit --follow`,
	})
	cmd.PersistentFlags().StringVar(&dataDir, "data-dir", "", "data directory of the host")
	cmd.AddCommand(a.pluginNewCommand(), a.pluginAddCommand(&dataDir), a.pluginListCommand(&dataDir), a.pluginVerifyCommand(&dataDir), a.pluginRestartCommand(&dataDir),
		a.pluginUpgradeCommand(&dataDir), a.pluginLogsCommand(&dataDir), a.pluginRemoveCommand(&dataDir),
		a.pluginPackCommand(), a.pluginKeygenCommand(), a.pluginTestCommand())
	return cmd
}

// pluginTargets returns the hosts whose plugins a command is about, each by itself.
func (a *app) pluginTargets(command, dataDir string) ([]target, error) {
	if dataDir != "" {
		if len(a.flags.api) > 0 || len(a.flags.endpoints) > 0 {
			return nil, usage("invalid_target", "give one of the two", "--data-dir and --api are both given")
		}
		dir, err := filepath.Abs(dataDir)
		if err != nil {
			return nil, err
		}
		return []target{{api: []string{"unix://" + filepath.Join(dir, adminSocket)}, from: "--data-dir"}}, nil
	}
	t, err := a.target()
	if err != nil {
		return nil, err
	}
	if t.direct() {
		return nil, usage("invalid_target", "name a host with --data-dir or --api", "%s asks a host, and %s names etcd", command, t.from)
	}
	var each []target
	for _, url := range t.api {
		each = append(each, target{api: []string{url}, from: t.from, context: t.context})
	}
	return each, nil
}

// A pluginHost is one host, as the commands of plugins see it.
type pluginHost struct {
	pluginv1.PluginServiceClient

	name string // empty: there is only one
}

// withPlugins runs work with each host in turn, until one fails. Without --timeout all
// of it takes the limit at most; 0: as long as the plugin's start does.
func (a *app) withPlugins(ctx context.Context, command, dataDir string, limit time.Duration, work func(ctx context.Context, h pluginHost) error) error {
	targets, err := a.pluginTargets(command, dataDir)
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx, limit)
	defer cancel()
	for _, t := range targets {
		if err := a.withPluginHost(ctx, t, len(targets) > 1, work); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) withPluginHost(ctx context.Context, t target, several bool, work func(ctx context.Context, h pluginHost) error) error {
	c, err := a.host(t)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	err = c.Once(ctx, func(cc grpc.ClientConnInterface) error {
		h := pluginHost{PluginServiceClient: pluginv1.NewPluginServiceClient(cc)}
		if several {
			h.name = t.addresses()
		}
		return work(ctx, h)
	})
	return pluginError(t, several, explain(ctx, t, err))
}

// pluginError says what an error means that is one of a plugin's host.
func pluginError(t target, several bool, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[exitError](err); ok {
		return err
	}
	e := *describe(err)
	const where = "name the host's data directory with --data-dir"
	bySocket := strings.HasPrefix(t.api[0], "unix://")
	switch {
	case status.Code(err) == codes.Unimplemented:
		e.Message, e.Hint = fmt.Sprintf("the host at %s has no plugins", t.addresses()), "use a newer conclave there"
	case e.Reason == recipe.ReasonNotPermitted && !bySocket:
		e.Message = fmt.Sprintf("the host at %s lets its plugins be administered on its own machine only", t.addresses())
		e.Hint = where
	case e.Exit == ExitNotFound && e.Hint == "":
		e.Hint = "conclave plugin ls names them"
	case e.Exit == ExitUnavailable && bySocket:
		e.Hint = "start the host, and name its data directory with --data-dir"
	case slices.Contains([]string{"plugin_failed", "plugin_refused", "incompatible"}, e.Reason):
		e.Exit = ExitFailed
	}
	if several {
		e.Message = t.addresses() + ": " + e.Message
	}
	return &e
}

// printPlugin prints what became of one plugin.
func (a *app) printPlugin(h pluginHost, p *pluginv1.Plugin, warnings []string) error {
	for _, w := range warnings {
		a.note("warning: " + clean(w))
	}
	v := pluginOf(p)
	v.Host = h.name
	return a.print(v, [][]string{v.row()})
}

func (a *app) pluginListCommand(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Short:   "List the plugins of a host, and how each is",
		Example: "  conclave plugin ls\n  conclave plugin ls -o json | jq -r '.[] | select(.state != \"ready\")'",
		Args:    exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			views, rows, header := []pluginView{}, [][]string{}, pluginHeader
			err := a.withPlugins(cmd.Context(), "plugin ls", *dataDir, answering, func(ctx context.Context, h pluginHost) error {
				resp, err := h.List(ctx, &pluginv1.ListRequest{})
				for _, p := range resp.GetPlugins() {
					v := pluginOf(p)
					v.Host = h.name
					views, rows = append(views, v), append(rows, v.row())
				}
				if h.name != "" && len(header) == len(pluginHeader) {
					header = append(slices.Clone(header), "HOST")
				}
				return err
			})
			if err != nil {
				return err
			}
			return a.printList(views, header, rows)
		},
	}
}

// verdictView is what `plugin verify` prints of one plugin.
type verdictView struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	OK       bool     `json:"ok"`
	Reason   string   `json:"reason,omitempty"`
	Text     string   `json:"text,omitempty"`
	Hint     string   `json:"hint,omitempty"`
	SHA256   string   `json:"sha256,omitempty"`
	KeyID    string   `json:"keyId,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	Host     string   `json:"host,omitempty"`
}

func verdictOf(v *pluginv1.Verdict, host string) (view verdictView, rows [][]string) {
	view = verdictView{Name: v.GetName(), Version: v.GetVersion(), OK: v.GetOk(), Reason: v.GetReason(), Text: v.GetText(), Hint: v.GetHint(),
		SHA256: v.GetSha256(), KeyID: v.GetKeyId(), Warnings: v.GetWarnings(), Host: host}
	verdict, text := "ok", "not signed by a trusted key"
	switch {
	case !view.OK:
		verdict, text = "refused", view.Text
	case view.KeyID != "":
		text = "signed by " + view.KeyID
	}
	row := []string{verdict, clean(view.Name), clean(view.Version), clean(text)}
	if host != "" {
		row = append(row, host)
	}
	rows = append(rows, row)
	for _, w := range view.Warnings {
		rows = append(rows, []string{"", "", "", "warning: " + clean(w)})
	}
	if view.Hint != "" && !view.OK {
		rows = append(rows, []string{"", "", "", "to mend it: " + clean(view.Hint)})
	}
	return view, rows
}

func (a *app) pluginVerifyCommand(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [NAME]",
		Short: "Check the files of plugins against what was added",
		Long: `verify reads the files of one plugin, or of all, and compares them with what
plugins.lock has of them; it checks signatures as plugins.policy says. It changes
nothing and runs nothing. It exits with 1 if the host would refuse one of them.`,
		Example: "  conclave plugin verify\n  conclave plugin verify ratelimit --data-dir /var/lib/conclave",
		Args:    atMostOne("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			views, rows, refused := []verdictView{}, [][]string{}, false
			err := a.withPlugins(cmd.Context(), "plugin verify", *dataDir, answering, func(ctx context.Context, h pluginHost) error {
				resp, err := h.Verify(ctx, &pluginv1.VerifyRequest{Name: strings.Join(args, "")})
				for _, v := range resp.GetVerdicts() {
					view, more := verdictOf(v, h.name)
					views, rows, refused = append(views, view), append(rows, more...), refused || !view.OK
				}
				return err
			})
			if err == nil && len(views) == 0 {
				a.note("there is nothing to verify: no plugin was added")
			}
			if err == nil {
				err = a.print(views, rows)
			}
			if err == nil && refused {
				err = exitError(ExitFailed)
			}
			return err
		},
	}
}

func (a *app) pluginRestartCommand(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "restart NAME",
		Short: "Start a plugin again, also out of quarantine",
		Long: `restart checks the plugin's files again, ends its process and starts another, whatever
state it is in. Calls wait meanwhile; what callers own stands. A plugin of conclave
dev --plugin is read anew from its path, so that what was built meanwhile runs.`,
		Example: "  conclave plugin restart ratelimit",
		Args:    exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPlugins(cmd.Context(), "plugin restart", *dataDir, 0, func(ctx context.Context, h pluginHost) error {
				resp, err := h.Restart(ctx, &pluginv1.RestartRequest{Name: args[0]})
				if err != nil {
					return err
				}
				return a.printPlugin(h, resp.GetPlugin(), nil)
			})
		},
	}
}

func (a *app) pluginRemoveCommand(dataDir *string) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME",
		Short:   "Stop a plugin and delete it",
		Long:    "rm stops a plugin and deletes its files. What callers own stands in etcd until their\nsessions end, and what the plugin has stored stays there.",
		Example: "  conclave plugin rm ratelimit",
		Args:    exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPlugins(cmd.Context(), "plugin rm", *dataDir, answering, func(ctx context.Context, h pluginHost) error {
				_, err := h.Remove(ctx, &pluginv1.RemoveRequest{Name: args[0]})
				return err
			})
		},
	}
}

func (a *app) pluginLogsCommand(dataDir *string) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:     "logs NAME",
		Short:   "Show what a plugin wrote last",
		Long:    "logs prints the last output of a plugin's processes, up to 64 KiB of it, and with\n--follow what it writes from then on. Of a plugin that crashed it is the crash report.",
		Example: "  conclave plugin logs ratelimit\n  conclave plugin logs ratelimit --follow",
		Args:    exactly(1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPlugins(cmd.Context(), "plugin logs", *dataDir, 0, func(ctx context.Context, h pluginHost) error {
				stream, err := h.Logs(ctx, &pluginv1.LogsRequest{Name: args[0], Follow: follow})
				for err == nil {
					var resp *pluginv1.LogsResponse
					if resp, err = stream.Recv(); err == nil {
						err = a.printOutput(resp.GetOutput())
					}
				}
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what it writes from now on")
	return cmd
}

// printOutput prints a plugin's output as it is, or as JSON, an object a piece.
func (a *app) printOutput(b []byte) error {
	if a.flags.output.value == outputTable {
		_, err := a.stdout.Write(b)
		return err
	}
	return a.printItem(map[string]string{"output": string(b)}, nil)
}
