package actions

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"certbook/actions/kube"
	"certbook/engine"
)

// authorityWarnings says what no renewal helps against.
func authorityWarnings(e Expiry) []string {
	var list []string
	for _, c := range e.Certificates {
		switch kube.State(c.State) {
		case kube.Due, kube.Expired, kube.NotYetValid:
			if c.IsCA {
				list = append(list, "CA "+c.Name+" is "+c.State+": renewal cannot help, rotate the CA")
			}
		}
	}
	return list
}

// homesPatience bounds the look into homes, which may lie on another machine.
const homesPatience = 15 * time.Second

// homeConfigs reads the kubeconfigs in homes.
func homeConfigs(ctx context.Context, p engine.Probe, homes []string) ([]engine.File, error) {
	if len(homes) == 0 {
		return nil, nil
	}
	var patterns []string
	for _, h := range homes {
		patterns = append(patterns, path.Join(h, ".kube/config"))
	}
	ctx, cancel := context.WithTimeout(ctx, homesPatience)
	defer cancel()
	files, err := p.ReadFiles(ctx, patterns...)
	if err != nil {
		return nil, fmt.Errorf("copies of admin.conf in %s were not looked for: %w", strings.Join(homes, ", "), err)
	}
	return files, nil
}

// olderCopies finds copies of admin.conf with an older certificate, and returns
// their paths and a warning for each.
func olderCopies(files []engine.File, found []kube.Found) (paths, warnings []string) {
	admin := find(found, "admin.conf")
	if admin.Leaf() == nil {
		return nil, nil
	}
	for _, f := range files {
		config, err := kube.ParseKubeconfig(f.Data)
		if err != nil {
			continue
		}
		for _, leaf := range config.Older(admin.Leaf(), chainOf(found, admin.CA)) {
			paths = append(paths, f.Path)
			warnings = append(warnings, fmt.Sprintf("%s holds an older certificate of %s than admin.conf, which ends on %s: copy it anew, or add the user to kubeconfig_users",
				f.Path, leaf.Subject.CommonName, leaf.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return slices.Compact(paths), warnings
}
