"""A DICOM structured report (SR) of the volume of a bleed, by the template TID 1500, which refers to a DICOM SEG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pydicom
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    SourceImageForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from hgisam_scans.dicom_seg import PRODUCER, REGIONS, one_line, save


def write_sr(
    path: str | Path, headers: Sequence[pydicom.Dataset], segmentation: pydicom.Dataset,
    volumes_ml: Mapping[str, float], *, algorithm: str, version: str,
) -> None:  # fmt: skip
    """Write the volume of each segment of a SEG.

    Args:
        path: The new file.
        headers: Of the original images, see `hgisam_scans.dicom_seg.source_headers`.
        segmentation: The SEG of these images.
        volumes_ml: Volume of each of its segments, in their order.
        algorithm, version: As in the SEG.

    Raises:
        InputError: If the images do not form what an SR may refer to.
    """
    with one_line("SR"):
        device = ObserverContext(
            observer_type=CodedConcept(*codes.DCM.Device[:3]),
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=generate_uid(), name=algorithm, model_name="hgisam", manufacturer_name=PRODUCER
            ),
        )
        identification = AlgorithmIdentification(name=algorithm, version=version[:16])
        images = [SourceImageForSegmentation(header.SOPClassUID, header.SOPInstanceUID) for header in headers]
        groups = [
            VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(
                    uid=segmentation.SegmentSequence[number - 1].TrackingUID, identifier=f"{name} hemorrhage"
                ),
                referenced_segment=ReferencedSegment(
                    segmentation.SOPClassUID, segmentation.SOPInstanceUID, number, source_images=images
                ),
                finding_type=codes.SCT.Hemorrhage,
                finding_sites=[FindingSite(anatomic_location=REGIONS[name])],
                measurements=[Measurement(name=codes.SCT.Volume, value=round(ml, 3), unit=codes.UCUM.CubicCentimeter)],
                algorithm_id=identification,
            )
            for number, (name, ml) in enumerate(volumes_ml.items(), start=1)
        ]
        report = MeasurementReport(
            observation_context=ObservationContext(observer_device_context=device),
            procedure_reported=codes.LN.HeadCT,
            imaging_measurements=groups,
            title=codes.DCM.ImagingMeasurementReport,
        )
        document = Comprehensive3DSR(
            evidence=[*headers, segmentation], content=report[0], series_instance_uid=generate_uid(),
            series_number=9002, sop_instance_uid=generate_uid(), instance_number=1,
            manufacturer=PRODUCER, is_complete=True, is_final=False, is_verified=False,
            series_description="HGI-SAM, research only",
        )  # fmt: skip
    save(document, path)
