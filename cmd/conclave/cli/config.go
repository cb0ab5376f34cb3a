package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/internal/keyspace"
	recipeconfig "github.com/conclavehq/conclave/recipes/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "config",
		Short: "Publish, watch and render dynamic configuration",
		Long: `config keeps values that change while programs run. Each key has a history of 50
versions, each with an author and a reason; a value can be rolled back, and checked
against a JSON Schema before it is published. A value is never replaced by nothing: a
key that was deleted by hand, or holds nonsense, leaves its readers with the last good
value, and says so.`,
		Example: `  conclave config set api/limits '{"rate":100}' --message 'as measured'
  conclave config get api/limits
  conclave config history api/limits
  conclave config render --template nginx.tmpl:/etc/nginx/nginx.conf --check 'nginx -t -c "$1"' -- nginx -s reload`,
	})
	cmd.AddCommand(a.configSetCommand(), a.configGetCommand(), a.configListCommand(), a.configWatchCommand(), a.configHistoryCommand(),
		a.configDiffCommand(), a.configRollbackCommand(), a.configRemoveCommand(), a.configReleaseCommand(), a.configSchemaCommand(),
		a.configRolloutCommand(), a.configStatusCommand(), a.configRenderCommand())
	return cmd
}

// configs is the configuration API of a target.
type configs = service[configv1.ConfigServiceClient]

// withConfigs runs work with the configuration API of the target.
func (a *app) withConfigs(ctx context.Context, atMost time.Duration, work func(ctx context.Context, t target, c configs) error) error {
	r := standardRecipe[configv1.ConfigServiceClient]{recipeconfig.Recipe{}, nil, configv1.NewConfigServiceClient}
	return withService(ctx, a, r, atMost, work)
}

// withKey is withConfigs for a command about one key.
func (a *app) withKey(ctx context.Context, key string, atMost time.Duration, work func(ctx context.Context, t target, c configs) error) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return keyHint(key, a.withConfigs(ctx, atMost, work))
}

func checkKey(key string) error {
	if err := keyspace.CheckName("key", key); err != nil {
		return usage("invalid_key", "", "%s", err)
	}
	return nil
}

// keyHint adds to an error what to do about it.
func keyHint(key string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[exitError](err); ok {
		return err
	}
	e := describe(err)
	if e.Hint != "" {
		return e
	}
	switch e.Reason {
	case "not_found":
		e.Hint = "see which keys there are with: conclave config ls"
		if strings.Contains(e.Message, "was deleted") || strings.Contains(e.Message, "history") {
			e.Hint = "see what it had with: conclave config history " + quoted(key)
		}
	case "conflict":
		e.Hint = "somebody published meanwhile; look at it with: conclave config get " + quoted(key)
	}
	return e
}

// configView is a version as commands print it. Value is null of a tombstone, and
// of bytes that are no text, which are in data.
type configView struct {
	Key      string     `json:"key"`
	Revision int64      `json:"revision"`
	Number   int64      `json:"number"`
	Value    *string    `json:"value"`
	Data     []byte     `json:"data,omitempty"`
	Codec    string     `json:"codec"`
	Author   string     `json:"author"`
	Message  string     `json:"message"`
	Time     *time.Time `json:"time"`
	Deleted  bool       `json:"deleted,omitempty"`
	Of       int64      `json:"of,omitempty"`
	Problem  string     `json:"problem,omitempty"`
}

func configViewOf(v *configv1.Version) configView {
	view := configView{Key: v.GetKey(), Revision: v.GetRevision(), Number: v.GetNumber(), Data: v.GetData(), Codec: v.GetCodec(), Author: v.GetAuthor(),
		Message: v.GetMessage(), Time: timeOf(v.GetTime()), Deleted: v.GetDeleted(), Of: v.GetOfRevision(), Problem: v.GetProblem()}
	if !v.GetDeleted() && len(v.GetData()) == 0 && v.GetSize() > 0 {
		view.Value = new(v.GetValue())
	}
	return view
}

// valueOf is a version's value.
func valueOf(v *configv1.Version) []byte {
	if len(v.GetData()) > 0 {
		return v.GetData()
	}
	return []byte(v.GetValue())
}

// inBrief is a version's value on one line, for a table; most is how many
// characters of it, 0 for all.
func inBrief(v *configv1.Version, most int) string {
	switch {
	case v.GetDeleted():
		return "(deleted)"
	case len(v.GetData()) > 0:
		return fmt.Sprintf("(%d bytes)", v.GetSize())
	}
	text := clean(strings.TrimRight(v.GetValue(), "\n"))
	if most > 0 && utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most-1]) + "…"
	}
	return text
}

// argument reads VALUE, @FILE or - for standard input; none is standard input too.
// Name is what an error calls it.
func (a *app) argument(name string, args []string) ([]byte, error) {
	switch {
	case len(args) == 0 && isTerminalIn(a.stdin):
		return nil, usage("invalid_arguments", "give it as text, as @FILE, or as - for standard input", "%s is missing", name)
	case len(args) == 0, args[0] == "-":
		return a.readAll(name, "standard input", a.stdin)
	case strings.HasPrefix(args[0], "@"):
		path := args[0][1:]
		f, err := os.Open(path)
		if err != nil {
			return nil, usage("invalid_"+strings.ToLower(name), "for a value that begins with @ use standard input", "%s: %v", name, err)
		}
		defer func() { _ = f.Close() }()
		return a.readAll(name, path, f)
	}
	return []byte(args[0]), nil
}

// readAll reads no more than what could be published.
func (a *app) readAll(name, from string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, config.MaxValue+1))
	field := "invalid_" + strings.ToLower(name)
	switch {
	case err != nil:
		return nil, usage(field, "", "%s: %s: %v", name, from, err)
	case len(data) > config.MaxValue:
		return nil, usage(field, "", "%s: %s has more than %d bytes, which is the limit", name, from, config.MaxValue)
	case len(data) == 0:
		return nil, usage(field, "to delete a key: conclave config rm KEY", "%s: %s is empty", name, from)
	}
	return data, nil
}

// author is who publishes, as user@host. Where a host knows who calls it says so
// itself.
func (a *app) author(t target) string {
	if with, err := a.access(t); err == nil && (with.token != "" || with.cert != "") {
		return ""
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return fmt.Sprintf("%.100s@%.100s", u.Username, host)
	}
	return fmt.Sprintf("%.200s", host)
}

func isTerminalIn(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}
