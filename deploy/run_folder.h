/* The run folder: which it is, the resolved config in it, the lock on it. */
#ifndef RT_RUN_FOLDER_H
#define RT_RUN_FOLDER_H

#include "base/config.h"
#include "model/model.h"

/* Loads CONFIG with the --set values, decides run.dir (--run, run.dir, else runs/NAME-OF-CONFIG).
 */
int run_config_load(rt_config *config, const char *path, const char *run_dir,
                    const char *const *sets, int sets_count, rt_error *err);
/* What a run needs of model and tasks, read before anything is started or written. */
int run_config_check(const rt_config *config, rt_error *err);
/* Makes the folder and writes DIR/config.yaml; a folder of another configuration is refused. */
int run_folder_prepare(const rt_config *config, rt_buf *config_path, rt_error *err);
/* One supervisor a folder: lock is a file descriptor to keep open. */
int run_folder_lock(const char *dir, int *lock, rt_error *err);
/* Thread counts that sum to the cores, decided here alone: in synchronous runs sampling and
 * training take turns, so the learner may have all cores and the actors share them. */
void run_threads_decide(rt_config *config);
/* Matmuls of a narrow model are too short for a team: two threads train one of width 96, and sample from it,
 * slower than one thread does (docs/speed.md). It gets one where nobody says how many. */
bool run_narrow(const rt_arch *arch);

#endif
