package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Emulate plays one of the emulated commands for the master at CERTBOOK_ROOT
// and returns its exit status.
func Emulate(name string, args []string, in io.Reader, out, errs io.Writer) int {
	root := os.Getenv("CERTBOOK_ROOT")
	if root == "" {
		fmt.Fprintln(errs, "demo: CERTBOOK_ROOT is not set; this command is for certbook demo")
		return 1
	}
	var err error
	switch name {
	case "component":
		if len(args) != 1 {
			err = errors.New("want one manifest")
			break
		}
		err = component(root, args[0], in)
	case "kubeadm":
		err = kubeadm(root, args, out)
	case "kubectl":
		err = kubectl(root, args, in, out)
	case "crictl":
		err = crictl(root, args, out)
	case "systemctl":
		err = systemctl(root, args, out)
	default:
		err = fmt.Errorf("not emulated")
	}
	if err != nil {
		fmt.Fprintf(errs, "%s (emulated): %v\n", name, err)
		return 1
	}
	return 0
}

// crictl knows ps -o json and stop -t SECONDS ID.
func crictl(root string, args []string, out io.Writer) error {
	list, err := containers(root)
	if err != nil {
		return err
	}
	words := plain(args)
	switch {
	case slices.Contains(words, "ps"):
		return json.NewEncoder(out).Encode(map[string]any{"containers": criContainers(list)})
	case slices.Contains(words, "stop"):
		id := words[len(words)-1]
		i := slices.IndexFunc(list, func(c container) bool { return c.ID == id })
		if i < 0 {
			return fmt.Errorf("no container %q", id)
		}
		return stop(list[i].Pid, grace(args))
	}
	return fmt.Errorf("%s is not emulated", strings.Join(args, " "))
}

func criContainers(list []container) []map[string]any {
	out := []map[string]any{}
	for _, c := range list {
		out = append(out, map[string]any{
			"id": c.ID, "state": "CONTAINER_RUNNING", "createdAt": strconv.FormatInt(c.CreatedAt.UnixNano(), 10),
			"metadata": map[string]any{"name": c.Name, "attempt": c.Attempt},
			"labels": map[string]string{
				"io.kubernetes.container.name": c.Name, "io.kubernetes.pod.namespace": "kube-system",
				"io.kubernetes.pod.name": c.Name + "-" + filepath.Base(filepath.Dir(c.ID)), "io.kubernetes.pod.uid": c.PodUID,
			},
		})
	}
	return out
}

// plain returns the words that are not flags.
func plain(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
}

func grace(args []string) time.Duration {
	if i := slices.Index(args, "-t"); i >= 0 && i+1 < len(args) {
		if n, err := strconv.Atoi(args[i+1]); err == nil {
			return time.Duration(n) * time.Second
		}
	}
	return 0
}

// stop ends a process and waits until it has gone.
func stop(pid int, grace time.Duration) error {
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); <-ticker.C {
		if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return nil
		}
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// systemctl knows one unit, kubelet.
func systemctl(root string, args []string, out io.Writer) error {
	words := plain(args)
	if len(words) == 0 {
		return errors.New("no command")
	}
	unit := strings.TrimSuffix(words[len(words)-1], ".service")
	switch words[0] {
	case "daemon-reload":
		return nil
	case "is-enabled":
		return fmt.Errorf("no unit %s", unit)
	case "list-unit-files":
		fmt.Fprintln(out, "kubelet.service enabled enabled")
		return nil
	case "restart":
		if unit == "kubelet" {
			return markKubelet(root)
		}
	case "show":
		if unit != "kubelet" {
			fmt.Fprintln(out, "LoadState=not-found\nActiveState=inactive\nSubState=dead")
			return nil
		}
		state, err := os.ReadFile(filepath.Join(root, "run/demo/kubelet"))
		if err != nil {
			return err
		}
		invocation, seconds, _ := strings.Cut(string(state), " ")
		since, err := strconv.ParseFloat(seconds, 64)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "LoadState=loaded\nActiveState=active\nSubState=running\nInvocationID=%s\nExecMainStartTimestampMonotonic=%.0f\n", invocation, since*1e6)
		return nil
	}
	return fmt.Errorf("%s is not emulated", strings.Join(args, " "))
}
