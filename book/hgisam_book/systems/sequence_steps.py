"""Steps of the sequence network: its maps with and without LSTM, pseudo-masks, and a U-Net that is trained on them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import zarr
from tqdm import tqdm

from data_prep.prepared_set import StudyArrays
from hgisam.config.profile import Profile
from hgisam.data.labels import MASK_VALUES
from hgisam.data.prepared import PreparedDataset, open_prepared
from hgisam.evaluation.score_maps import read_score_maps
from hgisam.inference.predictor import SlicePredictor, probability_of_bleeding
from hgisam.models.checkpoint import load_checkpoint
from hgisam.pipeline import open_step_data
from hgisam.runs.manifest import read_manifest
from hgisam.runs.steps import Run
from hgisam_book.recorded.reuse import train_or_reuse
from hgisam_book.studies.coarse_labels import write_set_of
from hgisam_book.studies.refinement import choose_slices
from hgisam_book.systems.extraction import SystemsRun, system_maps_step
from hgisam_book.systems.pseudo_masks import pseudo_masks
from hgisam_book.systems.sequence_cam import SequenceCam, SequenceNetwork, slice_cams
from hgisam_book.systems.training import load_system, read_slices, scans, train_system

WITH_LSTM, ALONE = SequenceCam(), SequenceCam(with_lstm=False)
RULE, UNET = "resnet_lstm_pseudo", "resnet_lstm_unet"  # maps: the rule on test slices, and the U-Net alone
NO_NETWORK = "rule_alone"  # map: the rule on the whole brain


def sequence_cam_step(profile: Profile, runs_dir: str | Path, take_from: str | Path | None = None) -> SystemsRun:
    """Networks and score maps of the system after Ramananda and Sundaresan, and of its parts; no mask is read.

    Args:
        profile: Of the run; the trainings "resnet_lstm", "resnet_slices" and "resnet_lstm_unet" are in its
            `study.trainings`.
        runs_dir: Folder of all runs.
        take_from: Folder of recorded runs, to reuse trainings that are the same; None to train.

    Returns:
        Networks in `runs/<profile>/price/<name>/network`, and maps in `runs/<profile>/price/<name>/maps`: "resnet_lstm"
        and "resnet_slices" of the same name, and "resnet_lstm_unet" with `RULE`, `NO_NETWORK` and
        `UNET`.
    """
    networks, maps = {}, {}
    for system in (WITH_LSTM, ALONE):
        own = profile.variant(system.name, ["train.checkpoint=null"])
        networks[system.name] = train_system(system, own, runs_dir, f"price/{system.name}/network", take_from)
        maps[system.name] = system_maps_step(system, profile, runs_dir, {None: networks[system.name]})
    labels = pseudo_set_step(profile, runs_dir, networks[WITH_LSTM.name])
    variant = Run(profile.variant(UNET, ["train.checkpoint=null"]), runs_dir)
    unet = train_or_reuse(variant, f"price/{UNET}/network", take_from, open_prepared(labels / "dataset"))
    segmented = segmentation_step(profile, runs_dir, maps[WITH_LSTM.name], unet)
    return SystemsRun(networks | {UNET: unet}, maps | {UNET: segmented})


def pseudo_set_step(profile: Profile, runs_dir: str | Path, trained: str | Path) -> Path:
    """The prepared set of the weakly labelled slices with pseudo-masks, sampled as for the refinement.

    Args:
        profile: Of the run.
        runs_dir: Folder of all runs.
        trained: The network with LSTM.

    Returns:
        `runs/<profile>/price/resnet_lstm_unet/labels`, with the set in `dataset`.
    """
    run, trained = Run(profile, runs_dir), Path(trained)
    data = open_step_data(run, "rsna")

    def work(folder: Path) -> None:
        network, own = load_system(WITH_LSTM, trained)
        assert isinstance(network, SequenceNetwork)
        write_pseudo_set(network, own, data, folder)

    return run.make(
        f"price/{UNET}/labels",
        work,
        code=["hgisam_book.systems.pseudo_masks", "hgisam_book.studies.refinement", "data_prep.prepared_set"],
        sections=("compute",),
        inputs={
            "prepared/rsna": data.fingerprint,
            "network": read_manifest(trained)["outputs"]["model.safetensors"],
        },
    )


def write_pseudo_set(network: SequenceNetwork, profile: Profile, weak: PreparedDataset, folder: str | Path) -> None:
    """Write the prepared set of a balanced sample of slices, with pseudo-masks of the bleeding ones.

    Args:
        network: With LSTM; it explains each slice that is labelled as bleeding, whatever it predicts.
        profile: Of its training.
        weak: With slice labels.
        folder: Of the step; gets the set as `dataset`.
    """
    sampled = choose_slices(weak.slices, profile.seed)
    found = [(scan, np.isin(scan, sampled)) for scan in scans(weak) if np.isin(scan, sampled).any()]
    pixel_mm = float(weak.slices["pixel_mm"].iloc[0])

    def blocks() -> Iterator[StudyArrays]:
        for scan, mine in tqdm(found, desc="pseudo-masks", unit="scan"):
            hu, brain = weak.hu[scan[mine]], weak.brain[scan[mine]]
            bleeding = mine & (weak.slices["any"].iloc[scan].to_numpy() == 1)
            mask, explained = np.zeros(hu.shape, np.uint8), bleeding[mine]
            if bleeding.any():
                cams = slice_cams(network, read_slices(weak, scan, profile), torch.from_numpy(bleeding))[bleeding]
                dense = pseudo_masks(hu[explained], brain[explained], cams, pixel_mm)
                empty = ~dense.any(axis=(1, 2))  # wrong in a slice that bleeds: then the region is the whole brain
                images, region = hu[explained][empty], brain[explained][empty]
                dense[empty] = pseudo_masks(images, region, (region > 0).astype(np.float32), pixel_mm)
                mask[explained] = dense * MASK_VALUES["unspecified"]
            yield hu, brain, mask

    order = np.concatenate([scan[mine] for scan, mine in found])
    write_set_of(weak, weak.slices.iloc[order], blocks(), folder, name="pseudo")


def segmentation_step(profile: Profile, runs_dir: str | Path, mapped: str | Path, unet: str | Path) -> Path:
    """Masks of the rule, with and without a map, and probabilities of the U-Net on the prepared `ct-ich` set.

    Args:
        profile: Of the run.
        runs_dir: Folder of all runs.
        mapped: Step with the maps of the network with LSTM.
        unet: Training on pseudo-masks.

    Returns:
        `runs/<profile>/price/resnet_lstm_unet/maps`: `maps.zarr` with `RULE`, `NO_NETWORK` and `UNET`, float16
        [slice, row, col].
    """
    run, mapped, unet = Run(profile, runs_dir), Path(mapped), Path(unet)
    data = open_step_data(run, "ct-ich")

    def work(folder: Path) -> None:
        predictor = SlicePredictor.of(load_checkpoint(unet), profile)
        cams, _ = read_score_maps(mapped / "maps.zarr")[WITH_LSTM.name]
        root, (count, *size) = zarr.open_group(folder / "maps.zarr", mode="w"), data.hu.shape
        arrays = {
            name: root.create_array(name, shape=(count, *size), dtype="float16", chunks=(1, *size))
            for name in (RULE, NO_NETWORK, UNET)
        }
        pixel_mm = float(data.slices["pixel_mm"].iloc[0])
        for rows in tqdm(scans(data), desc=UNET, unit="scan"):
            hu, brain = data.hu[rows], data.brain[rows]
            cam = np.asarray(cams.oindex[rows], np.float32)
            everywhere = (brain > 0).astype(np.float32)
            for name, region in ((RULE, cam), (NO_NETWORK, everywhere)):
                arrays[name].oindex[rows] = pseudo_masks(hu, brain, region, pixel_mm).astype(np.float16)
            images = predictor.images(hu, brain)
            arrays[UNET].oindex[rows] = predictor.maps(images, probability_of_bleeding, size[0]) * (brain > 0)

    return run.make(
        f"price/{UNET}/maps",
        work,
        code=["hgisam_book.systems.pseudo_masks", "hgisam.inference.predictor"],
        sections=("maps", "compute"),
        inputs={
            "prepared/ct-ich": data.fingerprint,
            "maps": read_manifest(mapped)["outputs"]["maps.zarr"],
            "network": read_manifest(unet)["outputs"]["model.safetensors"],
        },
    )
