package cli

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3/command"
)

// etcdctlCommand is upstream's etcdctl below `conclave etcdctl`. It parses its own
// flags: -d, -w and --timeout mean something else there, and its variables are
// looked up by flag name.
func (a *app) etcdctlCommand() *cobra.Command {
	return a.mounted("etcdctl", "etcd's own client commands: get, put, watch, lease, member, auth …",
		`  conclave etcdctl put greeting hello
  conclave etcdctl get --prefix greet
  conclave etcdctl endpoint status -w table`, a.newEtcdctl)
}

// mounted is the command that stands for a whole tree of upstream's.
func (a *app) mounted(name, short, example string, build func() *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:                name + " [flags] <command>",
		Short:              short,
		Example:            example,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := build()
			root.SetHelpTemplate("{{if not .HasParent}}Examples:\n" + example + "\n\n{{end}}" + root.HelpTemplate())
			root.SetArgs(args)
			if err := root.ExecuteContext(cmd.Context()); err != nil {
				if e, ok := asError(err); ok {
					return e
				}
				return usage("invalid_arguments", "see conclave "+name+" --help", "%s", oneLine(err))
			}
			return nil
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
			return completeIn(build(), append(args, toComplete))
		},
	}
}

// completeIn asks a mounted tree for completions.
func completeIn(root *cobra.Command, args []string) ([]string, cobra.ShellCompDirective) {
	var out strings.Builder
	root.SetOut(&out)
	root.SetErr(new(strings.Builder))
	root.SetArgs(append([]string{cobra.ShellCompRequestCmd}, args...))
	if root.Execute() != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	directive := cobra.ShellCompDirectiveDefault
	if n := len(lines) - 1; strings.HasPrefix(lines[n], ":") {
		_, _ = fmt.Sscanf(lines[n], ":%d", &directive)
		lines = lines[:n]
	}
	return lines, directive
}

func (a *app) newEtcdctl() *cobra.Command {
	root := a.newMount("etcdctl", "etcd's own client, etcdctl, as part of conclave")
	t, targetErr := a.etcdTarget()
	with, _ := a.access(t) // which cannot fail for etcd
	etcdctlFlags(root.PersistentFlags(), t, with)
	root.AddGroup(command.NewKVGroup(), command.NewClusterMaintenanceGroup(), command.NewConcurrencyGroup(),
		command.NewAuthenticationGroup(), command.NewUtilityGroup())
	root.AddCommand(
		command.NewGetCommand(), command.NewPutCommand(), command.NewDelCommand(), command.NewTxnCommand(),
		command.NewCompactionCommand(), command.NewWatchCommand(),
		command.NewAlarmCommand(), command.NewDefragCommand(), command.NewEndpointCommand(), command.NewMoveLeaderCommand(),
		command.NewMemberCommand(), command.NewSnapshotCommand(), command.NewDowngradeCommand(),
		command.NewLeaseCommand(), command.NewLockCommand(), command.NewElectCommand(),
		command.NewAuthCommand(), command.NewUserCommand(), command.NewRoleCommand(),
		command.NewMakeMirrorCommand(), command.NewCheckCommand(), command.NewVersionCommand(),
		command.NewOptionsCommand(root),
	)
	command.SetHelpCmdGroup(root)
	adapt(root, "etcdctl")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if targetErr != nil && !cmd.Flags().Changed("endpoints") && os.Getenv("ETCDCTL_ENDPOINTS") == "" {
			return targetErr
		}
		clearEtcdctlEnv(cmd)
		return nil
	}
	return root
}

// newMount is the root of a mounted tree.
func (a *app) newMount(name, short string) *cobra.Command {
	root := group(&cobra.Command{
		Use: name, Short: short, SilenceErrors: true, SilenceUsage: true,
		Annotations: map[string]string{cobra.CommandDisplayNameAnnotation: "conclave " + name},
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(flagError)
	return root
}

// etcdctlFlags declares upstream's global flags. Its commands look them up by
// these names while they run, and end the process if one is missing.
func etcdctlFlags(fs *pflag.FlagSet, t target, with access) {
	fs.StringSlice("endpoints", t.endpoints, "gRPC endpoints")
	fs.Bool("debug", false, "enable client-side debug logging")
	fs.StringP("write-out", "w", "simple", "output format: fields, json, protobuf, simple, table")
	fs.Bool("hex", false, "print byte strings as hex")
	fs.Duration("dial-timeout", 2*time.Second, "timeout for connecting")
	fs.Duration("command-timeout", 5*time.Second, "timeout for short commands, without connecting")
	fs.Duration("keepalive-time", 2*time.Second, "time between keep-alive pings")
	fs.Duration("keepalive-timeout", 6*time.Second, "time to wait for the answer to a ping")
	fs.Int("max-request-bytes", 0, "largest request, 0 for 2 MiB")
	fs.Int("max-recv-bytes", 0, "largest response, 0 for no limit")
	fs.Bool("insecure-transport", true, "connect without TLS")
	fs.Bool("insecure-discovery", true, "accept SRV records of insecure endpoints")
	fs.Bool("insecure-skip-tls-verify", false, "do not verify the server's certificate (for tests only)")
	fs.String("cert", with.cert, "client certificate")
	fs.String("key", with.key, "client key")
	fs.String("cacert", with.cacert, "CA bundle that verifies the server")
	fs.String("auth-jwt-token", "", "JWT for authentication, in place of --user")
	fs.String("user", "", "username[:password]; without a password it is asked for")
	fs.String("password", "", "password, if --user has none")
	fs.StringP("discovery-srv", "d", "", "domain whose SRV records name the endpoints")
	fs.String("discovery-srv-name", "", "service name for discovery by SRV records")
}

// adapt makes a tree of upstream's say its name as it is typed here, and lets a
// word that is no command be an error below the first level too.
func adapt(cmd *cobra.Command, name string) {
	word := regexp.MustCompile(`(^|[^\w/.-])` + name + `\b`)
	rename := func(s string) string { return word.ReplaceAllString(s, "${1}conclave "+name) }
	cmd.Short, cmd.Long, cmd.Example = rename(cmd.Short), rename(cmd.Long), rename(cmd.Example)
	if cmd.HasSubCommands() && !cmd.Runnable() {
		group(cmd)
	}
	for _, sub := range cmd.Commands() {
		adapt(sub, name)
	}
}

// clearEtcdctlEnv removes the ETCDCTL_ variables that upstream would not take:
// one whose flag is given ends the process there (etcd#20118), and one that it
// does not know is warned of. What upstream does take stays, for the commands
// that `lock` and `watch` run.
func clearEtcdctlEnv(cmd *cobra.Command) {
	const prefix = "ETCDCTL_"
	for _, kv := range os.Environ() {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if cmd.Name() == "watch" && (name == "ETCDCTL_WATCH_KEY" || name == "ETCDCTL_WATCH_RANGE_END") {
			continue
		}
		flag := cmd.InheritedFlags().Lookup(strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, prefix), "_", "-")))
		if flag == nil || flag.Changed || value == "" {
			_ = os.Unsetenv(name)
		}
	}
}
