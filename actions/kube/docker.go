package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// DockerPSArgv returns the command that lists the identifiers of the running
// containers in kube-system.
func DockerPSArgv() []string {
	return []string{"docker", "ps", "--quiet", "--no-trunc", "--filter", "label=" + labelNamespace + "=" + systemNamespace}
}

// DockerInspectArgv returns the command that describes containers.
func DockerInspectArgv(ids ...string) []string {
	return append([]string{"docker", "inspect", "--type", "container"}, ids...)
}

// DockerStopArgv returns the command that stops a container.
func DockerStopArgv(id string, grace time.Duration) []string {
	return []string{"docker", "stop", "-t", seconds(grace), id}
}

// DockerExecArgv returns the command that runs a program in a container.
func DockerExecArgv(id string, argv ...string) []string {
	return append([]string{"docker", "exec", id}, argv...)
}

// ParseIDs reads a list of container identifiers, one a line, as docker ps and
// ctr containers ls print them with --quiet. Another text is an error.
func ParseIDs(data []byte) ([]string, error) {
	if len(data) > maxListing {
		return nil, fmt.Errorf("list of containers: too large: %d bytes", len(data))
	}
	var out []string
	for _, id := range strings.Fields(string(data)) {
		if strings.Trim(id, "0123456789abcdefABCDEF") != "" || len(id) < 12 || len(id) > 128 {
			return nil, fmt.Errorf("list of containers: %q is not an identifier", clip(id))
		}
		if len(out) == maxListed {
			return nil, fmt.Errorf("list of containers: more than %d", maxListed)
		}
		out = append(out, id)
	}
	return out, nil
}

// ParseDockerInspect reads the output of DockerInspectArgv. Sandboxes, which
// docker shows as containers too, are left out.
func ParseDockerInspect(data []byte) ([]Container, error) {
	var list []struct {
		ID      string `json:"Id"`
		Created string
		State   struct {
			Status    string
			Pid       int
			StartedAt string
		}
		Config struct{ Labels map[string]string }
		Name   string
	}
	if err := decode("docker inspect", data, &list); err != nil {
		return nil, err
	}
	var out []Container
	for _, c := range list {
		if err := identifier("docker inspect", c.ID); err != nil {
			return nil, err
		}
		labels := c.Config.Labels
		if labels["io.kubernetes.docker.type"] == "podsandbox" || labels[labelContainer] == "POD" {
			continue
		}
		one := labelled(labels)
		one.ID, one.State, one.Pid = c.ID, dockerState(c.State.Status), max(c.State.Pid, 0)
		one.CreatedAt, one.StartedAt = timestamp(c.Created), timestamp(c.State.StartedAt)
		// k8s_CONTAINER_POD_NAMESPACE_UID_ATTEMPT
		if parts := strings.Split(c.Name, "_"); len(parts) == 6 {
			if n, err := strconv.Atoi(parts[5]); err == nil {
				one.Attempt = n
			}
		}
		out = append(out, one)
	}
	return out, nil
}

func dockerState(s string) ContainerState {
	switch s {
	case "running", "paused", "restarting":
		return Running
	case "exited", "dead", "removing":
		return Exited
	case "created":
		return Created
	}
	return Unknown
}

// ctrListScript prints the tasks, and after them what is known of each container
// that a filter finds and that has one; a line of = and the identifier goes
// before each. What ends meanwhile is left out. ctr takes as long to start as a
// shell takes for all else, so that what can is started at once: chain asks for
// the containers after the first one while it asks for that.
const ctrListScript = `set -uf
ctr="ctr --address $1 -n k8s.io"
shift
chain() {
	[ $# != 0 ] || return 0
	id=$1
	shift
	chain "$@" | {
		if info=$($ctr containers info "$id"); then printf '=%s\n%s\n' "$id" "$info"; fi
		cat
	}
}
{ $ctr containers ls -q "$@" && echo all; } | {
	tasks=$($ctr tasks ls) || exit
	ids=$(cat)
	case $ids in *all) ids=${ids%all} ;; *) exit 1 ;; esac
	printf '%s\n' "$tasks"
	set --
	for id in $ids; do
		case $tasks in *"$id"*) set -- "$@" "$id" ;; esac
	done
	chain "$@"
}`

// CtrListArgv returns the command that lists the running containers of
// components in containerd.
func CtrListArgv(address string, components ...string) []string {
	argv := []string{"sh", "-c", ctrListScript, "sh", address}
	for _, c := range components {
		argv = append(argv, fmt.Sprintf("labels.%q==%s,labels.%q==%s", labelNamespace, systemNamespace, labelContainer, c))
	}
	return argv
}

// ParseCtrList reads the output of CtrListArgv.
func ParseCtrList(data []byte) ([]Container, error) {
	if len(data) > maxListing {
		return nil, fmt.Errorf("ctr: too large: %d bytes", len(data))
	}
	var list []Container
	tasks, rest, more := bytes.Cut(data, []byte("\n="))
	for more {
		if len(list) == maxListed {
			return nil, fmt.Errorf("ctr: more than %d containers", maxListed)
		}
		_, info, _ := bytes.Cut(rest, []byte("\n")) // the identifier is in it as well
		info, rest, more = bytes.Cut(info, []byte("\n="))
		c, err := parseCtrInfo(info)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return withTasks(list, tasks)
}

// CtrExecArgv returns the command that runs a program in a container, under a
// name of its own: one that was used before is refused.
func CtrExecArgv(address, id, name string, argv ...string) []string {
	return append([]string{"ctr", "--address", address, "-n", "k8s.io", "tasks", "exec", "--exec-id", name, id}, argv...)
}

// CtrTasksArgv returns the command that lists the running processes.
func CtrTasksArgv(address string) []string {
	return []string{"ctr", "--address", address, "-n", "k8s.io", "tasks", "ls"}
}

// CtrKillArgv returns the command that sends a signal, such as SIGTERM, to a
// container's process. It does not wait.
func CtrKillArgv(address, id, signal string) []string {
	return []string{"ctr", "--address", address, "-n", "k8s.io", "tasks", "kill", "-s", signal, id}
}

// parseCtrInfo reads what ctr containers info prints. The state is unknown until
// withTasks adds it.
func parseCtrInfo(data []byte) (Container, error) {
	var info struct {
		ID        string
		Labels    map[string]string
		CreatedAt string
	}
	// ctr prints a warning about labels before the document in some versions.
	if i := bytes.IndexByte(data, '{'); i > 0 {
		data = data[i:]
	}
	if len(data) > maxListing {
		return Container{}, fmt.Errorf("ctr containers info: too large: %d bytes", len(data))
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&info); err != nil || info.ID == "" {
		return Container{}, fmt.Errorf("ctr containers info: not the expected JSON")
	}
	if err := identifier("ctr containers info", info.ID); err != nil {
		return Container{}, err
	}
	c := labelled(info.Labels)
	c.ID, c.State, c.CreatedAt = info.ID, Unknown, timestamp(info.CreatedAt)
	if info.Labels["io.cri-containerd.kind"] == "sandbox" {
		c.Name = "" // a sandbox is no container of the pod
	}
	return c, nil
}

// CtrRuns says whether a container still has a process, by what CtrTasksArgv
// printed.
func CtrRuns(id string, tasks []byte) (bool, error) {
	list, err := withTasks([]Container{{ID: id}}, tasks)
	return err == nil && list[0].State == Running, err
}

// withTasks adds what CtrTasksArgv printed: the process and the state. A
// container without a task has exited.
func withTasks(containers []Container, tasks []byte) ([]Container, error) {
	type task struct {
		pid   int
		state ContainerState
	}
	if len(tasks) > maxListing {
		return nil, fmt.Errorf("ctr tasks ls: too large: %d bytes", len(tasks))
	}
	known := map[string]task{}
	header := false
	for line := range strings.Lines(string(tasks)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		if f[0] == "TASK" && f[1] == "PID" {
			header = true
			continue
		}
		if pid, err := strconv.Atoi(f[1]); err == nil && pid > 0 && len(known) < maxListed {
			known[f[0]] = task{pid, ctrState(f[2])}
		}
	}
	if !header {
		return nil, fmt.Errorf("ctr tasks ls: no table with TASK and PID: %q", clip(string(tasks)))
	}
	out := make([]Container, len(containers))
	for i, c := range containers {
		t, ok := known[c.ID]
		if c.Pid, c.State = t.pid, t.state; !ok {
			c.State = Exited
		}
		out[i] = c
	}
	return out, nil
}

func ctrState(s string) ContainerState {
	switch s {
	case "RUNNING", "PAUSED", "PAUSING":
		return Running
	case "STOPPED":
		return Exited
	case "CREATED":
		return Created
	}
	return Unknown
}
