package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

const (
	rootName        = "root"     // etcd's user and role that may do everything
	defaultHostUser = "conclave" // and the name of the role that hosts need
)

func (a *app) authCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "auth",
		Short: "Have hosts and etcd ask everybody who they are",
		Long: `token makes a token with which programs call hosts. The rest sets up etcd's own
authentication: a user root, and one for hosts with the role that they need and nothing
more. Further users and roles are etcd's: see conclave etcdctl user --help.`,
		Example: `  conclave auth token ci --file callers.yaml > ci.token
  conclave auth enable --root-password-file root.txt --host-password-file host.txt
  conclave auth status
  conclave auth disable --user root --password-file root.txt
  conclave auth role                                    # the least role, to be made by hand`,
	})
	cmd.AddCommand(a.authStatusCommand(), a.authEnableCommand(), a.authDisableCommand(), a.authRoleCommand(), a.authTokenCommand())
	return cmd
}

func (a *app) authStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say whether etcd asks for a login", Args: exactly(0, ""),
		Example: "  conclave auth status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withEtcd(cmd.Context(), login{}, func(ctx context.Context, _ target, c *clientv3.Client) error {
				on, err := authOn(ctx, c)
				if err != nil {
					return err
				}
				text := map[bool]string{true: "on", false: "off"}[on]
				return a.print(map[string]any{"enabled": on}, [][]string{{"authentication", text}})
			})
		},
	}
}

// authOn asks as nobody, which etcd answers only while authentication is off.
func authOn(ctx context.Context, c *clientv3.Client) (bool, error) {
	s, err := c.AuthStatus(ctx)
	switch {
	case err == nil:
		return s.Enabled, nil
	case errors.Is(err, rpctypes.ErrUserEmpty), errors.Is(err, rpctypes.ErrPermissionDenied):
		return true, nil
	}
	return false, err
}

type authEnableFlags struct {
	rootFile, hostUser, hostFile string
	yes                          bool
}

func (a *app) authEnableCommand() *cobra.Command {
	var f authEnableFlags
	cmd := &cobra.Command{
		Use: "enable", Short: "Make the users that are needed, and have etcd ask for a login", Args: exactly(0, ""),
		Long: `enable makes the user root, a role that may read and write Conclave's keys, and a user
with that role for hosts, gives them the passwords in the files, switches
authentication on, and tries both logins. If one fails it switches authentication off
again. Run again after an interruption it goes on. Files that every user of the machine
can read are refused, as hosts refuse them.

Whoever has no login is refused from then on. So give hosts theirs first: etcd.user and
etcd.password_file may stand in their configuration before.`,
		Example: `  conclave auth enable --root-password-file root.txt --host-password-file host.txt
  conclave auth enable --root-password-file root.txt --host-user host-a --host-password-file a.txt --yes`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.authEnable(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.rootFile, "root-password-file", "", "file that holds the password of root (required)")
	cmd.Flags().StringVar(&f.hostUser, "host-user", defaultHostUser, "etcd's user for hosts")
	cmd.Flags().StringVar(&f.hostFile, "host-password-file", "", "file that holds the password of that user (required)")
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) authEnable(ctx context.Context, f authEnableFlags) error {
	if f.rootFile == "" || f.hostFile == "" {
		return usage("invalid_arguments", "such as: conclave auth enable --root-password-file root.txt --host-password-file host.txt",
			"--root-password-file and --host-password-file are needed")
	}
	if f.hostUser == rootName || f.hostUser == "" || strings.Contains(f.hostUser, ":") {
		return usage("invalid_host-user", "", "--host-user: %q cannot be the user of hosts: it is root's, empty, or has a colon", f.hostUser)
	}
	root, err := passwordLogin("root-password-file", rootName, f.rootFile)
	if err != nil {
		return err
	}
	host, err := passwordLogin("host-password-file", f.hostUser, f.hostFile)
	if err != nil {
		return err
	}
	return a.withEtcd(ctx, login{}, func(ctx context.Context, t target, c *clientv3.Client) error {
		if on, err := authOn(ctx, c); err != nil || on {
			if on {
				return &Error{Exit: ExitNotAcquired, Code: "failed_precondition", Reason: "conflict", Message: "etcd asks for a login already",
					Hint: "see: conclave etcdctl user list --user root"}
			}
			return err
		}
		if err := a.confirm(f.yes, fmt.Sprintf("Whoever has no login at %s is refused from now on.", t.addresses())); err != nil {
			return err
		}
		for _, step := range authSteps(c, root, host) {
			if err := step.do(ctx); err != nil {
				return fmt.Errorf("%s: %w", step.text, err)
			}
			a.note(step.text)
		}
		if err := a.tryLogins(ctx, t, root, host); err != nil {
			return err
		}
		_, err := fmt.Fprintf(a.stdout, "etcd:\n  user: %s\n  password_file: %s\n", host.user, f.hostFile)
		return err
	})
}

// passwordLogin reads a password as readLogin does, and names the flag.
func passwordLogin(flag, user, file string) (login, error) {
	l, err := readLogin(user, file)
	if e, ok := asError(err); ok {
		e.Message, e.Reason = strings.Replace(e.Message, "--password-file", "--"+flag, 1), "invalid_"+flag
		return l, e
	}
	if l.password == "" {
		return l, usage("invalid_"+flag, "", "--%s: %s holds no password", flag, file)
	}
	return l, nil
}

type authStep struct {
	text string
	do   func(ctx context.Context) error
}

// authSteps are what is done before and at the switch. Each may have been done.
func authSteps(c *clientv3.Client, root, host login) []authStep {
	steps := []authStep{
		{"user root", func(ctx context.Context) error { return addUser(ctx, c, root) }},
		{"role root", func(ctx context.Context) error {
			_, err := c.RoleAdd(ctx, rootName)
			return unless(err, rpctypes.ErrRoleAlreadyExist)
		}},
		{"user root has the role root", func(ctx context.Context) error { _, err := c.UserGrantRole(ctx, rootName, rootName); return err }},
		{"role " + defaultHostUser, func(ctx context.Context) error {
			_, err := c.RoleAdd(ctx, defaultHostUser)
			return unless(err, rpctypes.ErrRoleAlreadyExist)
		}},
		{fmt.Sprintf("role %s reads and writes %s", defaultHostUser, keyspace.Root), func(ctx context.Context) error {
			_, err := c.RoleGrantPermission(ctx, defaultHostUser, keyspace.Root, keyspace.End(keyspace.Root), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		}},
		{"user " + host.user, func(ctx context.Context) error { return addUser(ctx, c, host) }},
		{fmt.Sprintf("user %s has the role %s", host.user, defaultHostUser), func(ctx context.Context) error {
			_, err := c.UserGrantRole(ctx, host.user, defaultHostUser)
			return err
		}},
	}
	return append(steps, authStep{"authentication is on", func(ctx context.Context) error { _, err := c.AuthEnable(ctx); return err }})
}

// addUser makes a user, or gives one that is there the password.
func addUser(ctx context.Context, c *clientv3.Client, l login) error {
	_, err := c.UserAdd(ctx, l.user, l.password)
	if errors.Is(err, rpctypes.ErrUserAlreadyExist) {
		_, err = c.UserChangePassword(ctx, l.user, l.password)
	}
	return err
}

func unless(err, fine error) error {
	if errors.Is(err, fine) {
		return nil
	}
	return err
}

// tryLogins looks that root and hosts get in, and switches authentication off again
// if they do not: better no lock than one without a key.
func (a *app) tryLogins(ctx context.Context, t target, root, host login) error {
	asRoot, err := a.dialAs(ctx, t, root)
	if err != nil {
		return fmt.Errorf("authentication is on, but root is refused: %w", err)
	}
	defer func() { _ = asRoot.Close() }()
	asHost, err := a.dialAs(ctx, t, host)
	if err == nil {
		defer func() { _ = asHost.Close() }()
		_, err = asHost.Get(ctx, keyspace.SessionsPrefix(), clientv3.WithPrefix(), clientv3.WithLimit(1))
	}
	if err == nil {
		return nil
	}
	_, back := asRoot.AuthDisable(ctx)
	return errors.Join(fmt.Errorf("user %s is refused, so that authentication is off again: %w", host.user, err), back)
}

func (a *app) authDisableCommand() *cobra.Command {
	var user, file string
	cmd := &cobra.Command{
		Use: "disable", Short: "Have etcd ask nobody for a login any more", Args: exactly(0, ""),
		Long:    "disable switches etcd's authentication off. Users and roles stay for the next time.",
		Example: "  conclave auth disable --user root --password-file root.txt",
		RunE: func(cmd *cobra.Command, _ []string) error {
			as, err := readLogin(user, file)
			if err != nil {
				return err
			}
			return a.withEtcd(cmd.Context(), as, func(ctx context.Context, _ target, c *clientv3.Client) error {
				if _, err := c.AuthDisable(ctx); err != nil {
					return err
				}
				a.note("authentication is off")
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "etcd's user, with the role root")
	cmd.Flags().StringVar(&file, "password-file", "", "file that holds the user's password")
	return cmd
}

// withEtcd does something on etcd itself.
func (a *app) withEtcd(ctx context.Context, as login, do func(context.Context, target, *clientv3.Client) error) error {
	t, err := a.etcdItself("this")
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
	if err := do(ctx, t, c); err != nil {
		return explain(ctx, t, err)
	}
	return nil
}

// confirm asks on a terminal, and elsewhere wants --yes.
func (a *app) confirm(yes bool, text string) error {
	if yes {
		return nil
	}
	in, ok := a.stdin.(*os.File)
	if !ok || !isTerminal(in) || !isTerminal(a.stderr) {
		return usage("invalid_yes", "", "%s Say --yes to go on.", text)
	}
	if _, err := fmt.Fprintf(a.stderr, "%s Go on? [y/N] ", text); err != nil {
		return err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || (answer != "y" && answer != "yes") {
		return &Error{Exit: ExitFailed, Code: "canceled", Reason: "canceled", Message: "nothing was changed"}
	}
	return nil
}
